#!/usr/bin/env bash
# rustls refuses the certificate of `openssl req -x509` although that very certificate is what it was told to trust.
#
# One would guess: a server's own certificate that is put among the roots is trusted, as curl does with --cacert.
#   If anything is wrong with it, it is that it lacks the right to sign others.
# What happens: `openssl req -x509` writes CA:TRUE into what it makes unless told otherwise, and rustls
#   takes no certificate of an authority for that of a server, not even one of its own roots: CaUsedAsEndEntity.
#   With `-addext basicConstraints=critical,CA:FALSE` the same is trusted.
# Seen with: rustls 0.23.46, rustls-webpki 0.103.17 (crates.io); OpenSSL 3.0 and curl 7.88.1 (Debian 12).
# Why it matters to a host of agents: models and MCP servers in one's own network have such certificates, made by
#   the one line that everybody knows. curl on the same machine says that all is well, which hides where the fault
#   is. Say in the error what to do, and make certificates of tests with CA:FALSE.
# Rule: RFC 5280 4.2.1.9 says what CA:TRUE allows, and forbids nothing of a server. The documentation of
#   rustls-webpki has CaUsedAsEndEntity as an error by itself.
set -euo pipefail

openssl=$(openssl version) curl=$(curl --version | head -n 1)
[[ $openssl = "OpenSSL 3.0."* && $curl = "curl 7.88.1 "* ]] || {
    printf 'not the versions that this was seen with: %s; %s\n' "$openssl" "$curl" >&2
    exit 2
}

dir=$(mktemp --directory)
server=
trap '[ -z "$server" ] || kill "$server"; rm -rf -- "$dir"' EXIT
mkdir "$dir/src"

cat >"$dir/Cargo.toml" <<'TOML'
[package]
name = "finding"
version = "0.0.0"
edition = "2021"

[dependencies]
rustls = { version = "=0.23.46", default-features = false, features = ["ring", "std", "tls12"] }
rustls-webpki = { version = "=0.103.17", default-features = false }
TOML

cat >"$dir/src/main.rs" <<'RUST'
use rustls::client::{danger::ServerCertVerifier, WebPkiServerVerifier};
use rustls::pki_types::{pem::PemObject, CertificateDer, ServerName, UnixTime};
use std::sync::Arc;

fn main() {
    let file = std::env::args().nth(1).unwrap();
    let certificate = CertificateDer::from_pem_file(file).unwrap();
    let mut trusted = rustls::RootCertStore::empty();
    trusted.add(certificate.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(trusted), provider);
    let name = ServerName::try_from("localhost").unwrap();
    let verifier = verifier.build().unwrap();
    match verifier.verify_server_cert(&certificate, &[], &name, &[], UnixTime::now()) {
        Ok(_) => println!("trusted"),
        Err(error) => println!("{error}"),
    }
}
RUST

export CARGO_TARGET_DIR="$dir/target"
cargo build --quiet --manifest-path "$dir/Cargo.toml"

# certificate NAME [OPTION...]
certificate() {
    openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=localhost -addext subjectAltName=DNS:localhost \
        -keyout "$dir/$1.key" -out "$dir/$1.pem" "${@:2}" 2>/dev/null
}

# by_curl NAME: what curl says of a server that has this certificate.
by_curl() {
    openssl s_server -accept localhost:0 -cert "$dir/$1.pem" -key "$dir/$1.key" -www >"$dir/said" 2>&1 &
    server=$!
    until port=$(sed -n 's/^ACCEPT.*:\([0-9]*\)$/\1/p' "$dir/said") && [ -n "$port" ]; do
        kill -0 "$server"
        sleep 0.1
    done
    curl --silent --show-error --cacert "$dir/$1.pem" --output /dev/null --write-out '%{http_code}' \
        "https://localhost:$port/"
    kill "$server"
    server=
}

certificate plain
certificate no-ca -addext basicConstraints=critical,CA:FALSE

expected="plain, rustls: invalid peer certificate: Other(OtherError(CaUsedAsEndEntity))
plain, curl: 200
no-ca, rustls: trusted
no-ca, curl: 200"

seen=$(for name in plain no-ca; do
    printf '%s, rustls: %s\n' "$name" "$("$dir/target/debug/finding" "$dir/$name.pem")"
    printf '%s, curl: %s\n' "$name" "$(by_curl "$name")"
done)
printf '%s\n' "$seen"
[ "$seen" = "$expected" ] || {
    printf 'this has changed; it was:\n%s\n' "$expected" >&2
    exit 1
}

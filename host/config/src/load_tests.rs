use super::super::RuntimeKind;
use super::*;
use std::time::Duration;

fn load(file: &str, env: &[(&str, &str)]) -> Result<(Config, Vec<String>), String> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("twobox.toml");
    std::fs::write(&path, file).unwrap();
    let env = env.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    Config::load(&path, &env).map_err(|error| error.to_string())
}

#[test]
fn the_environment_goes_over_the_file_and_the_file_over_the_defaults() {
    let file = "runtime = 'docker'\n[limits]\nmax_tool = '3h'\nmax_tries = 7\n";
    let env = [("TWOBOX_LIMITS_MAX_TOOL", "90m"), ("TWOBOX_CONTAINERS_CPUS", "2")];
    let (config, warnings) = load(file, &env).unwrap();
    assert_eq!(config.runtime, RuntimeKind::Docker);
    assert_eq!(config.limits.max_tool, Duration::from_secs(90 * 60));
    assert_eq!((config.limits.max_tries, config.containers.cpus), (7, 2.0));
    assert_eq!(config.shutdown, Config::default().shutdown);
    assert!(warnings.is_empty(), "{warnings:?}");
}

#[test]
fn a_channel_has_a_section_of_its_own_and_the_short_form_is_one() {
    let file = "[channels]\ncommand = '/a'\ncommand_timeout = '5s'\n\
                [channels.sms]\nkind = 'command'\nprogram = '/b'\n";
    let all = load(file, &[]).unwrap().0.channels.all();
    assert_eq!(all.keys().collect::<Vec<_>>(), ["command", "sms"]);
    assert!(all.values().all(|channel| channel.kind == "command"), "{all:?}");
    let setting = |id: &str, name| all[id].settings.get(name).and_then(toml::Value::as_str);
    assert_eq!(
        (setting("command", "program"), setting("sms", "program")),
        (Some("/a"), Some("/b"))
    );
    assert_eq!((setting("command", "timeout"), setting("sms", "timeout")), (Some("5s"), None));
    assert_eq!(setting("sms", "kind"), None, "no setting of its kind");
    assert_eq!(load("", &[]).unwrap().0.channels.all(), BTreeMap::new());
    for (file, part) in [
        ("[channels.sms]\nprogram = '/b'", "[channels.sms] has no kind"),
        ("[channels.sms]\nkind = 7", "kind = 7"),
        ("[channels.sms]\nkind = 'command'\nenabled = 'no'", "enabled = \"no\": use true or false"),
        ("[channels.SMS]\nkind = 'command'", "bad name"),
        ("[channels.command_keys]\nkind = 'command'", "bad name"),
        ("[limits.sms]\nkind = 'command'", "unknown key limits.sms"),
    ] {
        let error = load(file, &[]).unwrap_err();
        assert!(error.contains(part), "{error}");
    }
    let switched = "[channels.a]\nkind = 'bridge'\nenabled = false\n[channels.b]\nkind = 'bridge'\nenabled = true\n";
    let channels = load(switched, &[]).unwrap().0.channels;
    assert_eq!(channels.all().keys().collect::<Vec<_>>(), ["b"]);
    assert_eq!(channels.disabled.keys().collect::<Vec<_>>(), ["a"]);
    assert!(channels.all()["b"].settings.is_empty(), "no setting of its kind");
    let both = load("[channels.command]\nkind = 'command'", &[("TWOBOX_CHANNELS_COMMAND", "/a")]);
    assert!(both.unwrap_err().contains("use one of them"));
}

#[test]
fn a_missing_file_is_the_default() {
    let missing = Path::new("/nonexistent/twobox.toml");
    assert_eq!(Config::load(missing, &BTreeMap::new()).unwrap().0, Config::default());
}

#[test]
fn a_mistake_in_the_file_is_one_error_that_names_everything() {
    let cases: &[(&str, &[&str])] = &[
        ("runtim = 'docker'", &["unknown key runtim", "runtime, watch"]),
        ("[limits]\nmax_tri = 1", &["unknown key limits.max_tri", "limits.max_tries"]),
        ("[limit]\nmax_tries = 1", &["unknown key limit;"]),
        (
            "runtime = 'podman'",
            &["runtime = \"podman\"", "\"docker\" or \"sandbox\" or \"process\""],
        ),
        ("runtime = 1", &["runtime = 1", "\"docker\" or \"sandbox\" or \"process\""]),
        ("[limits]\nmax_tries = 0", &["limits.max_tries = 0", "from 1 to 100"]),
        ("[limits]\nmax_tries = '5'", &["limits.max_tries = \"5\"", "from 1 to 100"]),
        ("[containers]\nmax_running = 10001", &["max_running = 10001", "to 10000"]),
        ("[containers]\nmemory_mb = 15", &["memory_mb = 15", "from 16"]),
        ("[containers]\npids = -1", &["pids = -1", "from 16"]),
        ("[containers]\ncpus = 0.0", &["cpus = 0.0", "from 0.01"]),
        ("[containers]\ncpus = nan", &["cpus = nan"]),
        ("[containers]\nidle = '0s'", &["containers.idle = \"0s\"", "such as \"10m\""]),
        ("[containers]\nidle = 600", &["containers.idle = 600", "such as \"10m\""]),
        ("[channels]\ncommand_keys = 'yes'", &["command_keys = \"yes\"", "true or false"]),
        ("[channels]\ncommand = 7", &["channels.command = 7", "text in quotes"]),
        ("[delivery]\nmax_hold = '900y'", &["max_hold", "up to a year"]),
        ("[api]\nlisten = 'localhost:80'", &["api.listen = \"localhost:80\"", "127.0.0.1:28642"]),
        ("[api]\nlisten = 8642", &["api.listen = 8642", "127.0.0.1:28642"]),
        ("containers = 3", &["unknown key containers"]),
        ("[gateway]\nusd_per_day = -1", &["gateway.usd_per_day = -1", "or \"none\""]),
        ("[gateway]\ntokens_per_day = 1.5", &["tokens_per_day = 1.5", "a whole number"]),
        ("[gateway]\nupstreams = 3", &["gateway.upstreams = 3", "[gateway.upstreams]"]),
        ("[gateway.upstreams]\na = 3", &["gateway.upstreams.a = 3 is no section"]),
        (
            "[limits]\nclaim_tolerance = '9s'",
            &["limits.claim_tolerance = \"9s\"", "use 10s or more", "(limits.heartbeat)"],
        ),
        ("[limits]\nheartbeat = '1h'", &["limits.claim_tolerance = \"1m\"", "use 1h or more"]),
        (
            "[limits]\nheartbeat = '2s'\nclaim_tolerance = '2s'\nheartbeat_ceiling = '1s'",
            &["limits.heartbeat_ceiling = \"1s\"", "use 2s or more"],
        ),
        ("[limits\n", &["not valid TOML: line 1"]),
    ];
    for (file, expected) in cases {
        let error = load(file, &[]).unwrap_err();
        assert!(error.contains("twobox.toml"), "{file}: {error}");
        assert!(!error.contains('\n'), "{file}: {error}");
        for part in *expected {
            assert!(error.contains(part), "{file}: {error:?} lacks {part:?}");
        }
    }
}

#[test]
fn a_bad_number_in_the_environment_falls_back_with_a_warning() {
    for bad in ["many", "", "0", "101", "5.5"] {
        let env = [("TWOBOX_LIMITS_MAX_TRIES", bad)];
        let (config, warnings) = load("[limits]\nmax_tries = 9", &env).unwrap();
        assert_eq!(config.limits.max_tries, 9, "{bad:?}");
        assert_eq!(warnings.len(), 1, "{bad:?}");
        assert!(warnings[0].contains("TWOBOX_LIMITS_MAX_TRIES"), "{warnings:?}");
    }
    let (config, warnings) = load("", &[("TWOBOX_LIMITS_MAX_TOOL", "soon")]).unwrap();
    assert_eq!(config, Config::default());
    assert!(warnings[0].contains("limits.max_tool stays \"2h\""), "{warnings:?}");
}

#[test]
fn a_limit_below_the_heartbeat_is_refused_where_it_was_set() {
    let error = load("", &[("TWOBOX_LIMITS_CLAIM_TOLERANCE", "2s")]).unwrap_err();
    assert!(error.starts_with("environment variable TWOBOX_LIMITS_CLAIM_TOLERANCE"), "{error}");
    let beat = ("TWOBOX_LIMITS_HEARTBEAT", "2s");
    assert!(load("[limits]\nclaim_tolerance = '2s'", &[beat]).is_ok());
}

#[test]
fn a_bad_word_in_the_environment_never_means_another_runtime() {
    let error = load("", &[("TWOBOX_RUNTIME", "dokcer")]).unwrap_err();
    assert!(error.contains("TWOBOX_RUNTIME") && error.contains("dokcer"), "{error}");
    let error = load("", &[("TWOBOX_CHANNELS_COMMAND_KEYS", "yes")]).unwrap_err();
    assert!(error.contains("TWOBOX_CHANNELS_COMMAND_KEYS") && error.contains("yes"), "{error}");
    let (config, _) = load("", &[("TWOBOX_CHANNELS_COMMAND_KEYS", "true")]).unwrap();
    assert!(config.channels.command_keys);
}

#[test]
fn a_budget_is_a_number_or_none_and_a_bad_one_never_means_none() {
    let file = "[gateway]\nusd_per_day = 5\ntokens_per_day = 0\n[gateway.upstreams.a]\nb = 1";
    let gateway = load(file, &[]).unwrap().0.gateway;
    assert_eq!((gateway.usd_per_day, gateway.tokens_per_day), (Some(5.0), Some(0)));
    assert_eq!(gateway.upstreams["a"]["b"].as_integer(), Some(1));
    let none = ("TWOBOX_GATEWAY_USD_PER_DAY", "none");
    assert_eq!(load(file, &[none]).unwrap().0.gateway.usd_per_day, None);
    let more = ("TWOBOX_GATEWAY_USD_PER_DAY", "7.5");
    assert_eq!(load(file, &[more]).unwrap().0.gateway.usd_per_day, Some(7.5));
    let error = load("", &[("TWOBOX_GATEWAY_TOKENS_PER_DAY", "many")]).unwrap_err();
    assert!(error.contains("TWOBOX_GATEWAY_TOKENS_PER_DAY"), "{error}");
}

#[test]
fn an_empty_address_is_none_and_a_bad_one_is_never_another() {
    let listen = |file: &str, env: &[(&str, &str)]| load(file, env).map(|(c, _)| c.api.listen);
    assert_eq!(listen("[api]\nlisten = ''", &[]).unwrap(), None);
    let six = Some("[::1]:80".parse().unwrap());
    assert_eq!(listen("[api]\nlisten = '[::1]:80'", &[]).unwrap(), six);
    assert_eq!(listen("", &[("TWOBOX_API_LISTEN", "")]).unwrap(), None);
    let error = listen("", &[("TWOBOX_API_LISTEN", "127.0.0.1")]).unwrap_err();
    assert!(error.contains("TWOBOX_API_LISTEN") && error.contains("with a port"), "{error}");
}

#[test]
fn a_misspelt_override_is_mentioned_and_foreign_variables_are_not() {
    let env = [("TWOBOX_LIMITS_MAX_TOL", "1h"), ("TWOBOX_DATA", "x"), ("TWOBOX_LOG", "debug")];
    let (_, warnings) = load("", &env).unwrap();
    assert_eq!(warnings, ["environment variable TWOBOX_LIMITS_MAX_TOL sets no known key"]);
}

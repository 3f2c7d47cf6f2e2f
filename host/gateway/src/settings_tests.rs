use super::*;

fn read(text: &str) -> Result<Upstreams, String> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("twobox.toml");
    std::fs::write(&path, text).unwrap();
    let (config, _) = Config::load(&path, &BTreeMap::new()).unwrap();
    Upstreams::read(&config).map_err(|error| error.to_string())
}

fn name(text: &str) -> ModelName {
    text.to_owned().try_into().unwrap()
}

#[test]
fn vendors_and_the_programs_of_this_machine_are_there_without_a_section() {
    let upstreams = read("").unwrap();
    let names: Vec<&str> = upstreams.all().map(|it| it.name.as_str()).collect();
    assert_eq!(names, ["anthropic", "llama-cpp", "lm-studio", "ollama", "openai", "vllm"]);
    let guessed: Vec<&str> =
        upstreams.all().filter(|it| it.guessed).map(|it| it.name.as_str()).collect();
    assert_eq!(guessed, ["llama-cpp", "lm-studio", "ollama", "vllm"]);
    let ollama = upstreams.get("ollama").unwrap();
    assert_eq!(
        (ollama.base_url.as_str(), &ollama.secret, ollama.api),
        ("http://127.0.0.1:11434/v1", &None, Api::Chat)
    );
    let route = upstreams.route(&name("anthropic/claude-x")).unwrap();
    assert_eq!((route.path.as_str(), route.api), ("/anthropic/v1/messages", Api::Messages));
    assert_eq!(
        (route.context_tokens, route.max_output_tokens, route.images),
        (200_000, 16_384, true)
    );
    let route = upstreams.route(&name("openai/gpt-x")).unwrap();
    assert_eq!((route.path.as_str(), route.api), ("/openai/responses", Api::Responses));
    let openai = upstreams.get("openai").unwrap();
    assert_eq!(
        (openai.base_url.as_str(), openai.secret.as_deref()),
        ("https://api.openai.com/v1", Some("openai"))
    );
    assert_eq!(upstreams.limit, Limit::default());
    let error = upstreams.route(&name("router/x")).unwrap_err();
    assert!(
        error.contains(
            "no upstream \"router\", but anthropic, llama-cpp, lm-studio, ollama, openai, vllm"
        ),
        "{error}"
    );
}

#[test]
fn a_section_of_a_program_of_this_machine_changes_what_it_names_and_no_more() {
    let upstreams = read(
        "[gateway.upstreams.ollama.models.\"qwen3:8b\"]\ncontext_tokens = 40960\n\
         [gateway.upstreams.vllm]\nbase_url = 'http://127.0.0.1:9000/v1'\nsecret = 'ours'\n",
    )
    .unwrap();
    let ollama = upstreams.get("ollama").unwrap();
    assert_eq!((ollama.base_url.as_str(), ollama.guessed), ("http://127.0.0.1:11434/v1", false));
    assert_eq!((&ollama.secret, ollama.model("qwen3:8b").context_tokens), (&None, 40_960));
    let vllm = upstreams.get("vllm").unwrap();
    assert_eq!(vllm.base_url, "http://127.0.0.1:9000/v1");
    assert_eq!(vllm.secret.as_deref(), Some("ours"));
}

#[test]
fn a_section_says_where_an_upstream_is_and_what_its_models_are() {
    let text = "[gateway]\nusd_per_day = 5\ntokens_per_day = 1000\n\
        [gateway.upstreams.router]\nkind = 'compatible'\nbase_url = 'https://r.example/api/v1/'\n\
        secret = 'router-key'\n\
        [gateway.upstreams.router.models.\"meta/llama-4.1\"]\ncontext_tokens = 131072\nimages = true\n\
        input_usd = 0.27\noutput_usd = 1\n\
        [gateway.upstreams.local]\nkind = 'compatible'\nbase_url = 'http://127.0.0.1:8080'\nsecret = ''\n\
        [gateway.upstreams.openai]\napi = 'chat'\n";
    let upstreams = read(text).unwrap();
    let router = upstreams.get("router").unwrap();
    assert_eq!(router.base_url, "https://r.example/api/v1");
    assert_eq!(router.secret.as_deref(), Some("router-key"));
    let route = upstreams.route(&name("router/meta/llama-4.1")).unwrap();
    assert_eq!((route.path.as_str(), route.api), ("/router/chat/completions", Api::Chat));
    assert_eq!(
        (route.context_tokens, route.max_output_tokens, route.images),
        (131_072, 4096, true)
    );
    let prices = router.model("meta/llama-4.1").prices;
    assert_eq!(prices, Some(Prices::of_usd(0.27, 1.0, 0.27, 0.27)));
    let other = router.model("other");
    assert_eq!((other.context_tokens, other.images, other.prices), (32_768, false, None));
    assert_eq!(upstreams.get("local").unwrap().secret, None);
    assert_eq!(upstreams.get("openai").unwrap().api, Api::Chat);
    assert_eq!(upstreams.get("anthropic").unwrap().api, Api::Messages);
    assert_eq!(upstreams.limit, Limit { nano_usd: Some(5_000_000_000), tokens: Some(1000) });
}

#[test]
fn what_is_wrong_is_told_with_its_path_and_what_to_write() {
    let compatible = "kind = 'compatible'\nbase_url = 'https://r.example'";
    let cases = [
        ("router", "kind = 'compatible'", "gateway.upstreams.router.base_url: is missing"),
        ("router", "base_url = 'https://a'", "gateway.upstreams.router.kind: is missing"),
        ("router", "kind = 'own'", "gateway.upstreams.router.kind: unknown variant `own`"),
        ("router", "kind = 'openai'\nkey = 'x'", "gateway.upstreams.router"),
        ("a b", "kind = 'openai'", "gateway.upstreams.a b: has a bad name"),
        ("anthropic", "api = 'chat'", "gateway.upstreams.anthropic.api: is none of its kind"),
        ("anthropic", "secret = 'sk ant'", "secrets set anthropic"),
        (
            "anthropic",
            "base_url = 'http://a.example'",
            "base_url: \"http://a.example\" would be asked in clear",
        ),
        ("anthropic", "base_url = 'api.example'", "is no whole address"),
        ("anthropic", "base_url = 'ftp://api.example'", "begins neither with"),
        ("anthropic", "base_url = 'https://me:x@api.example'", "names a user"),
        ("anthropic", "base_url = 'https://api.example/?a=b'", "has more than a path"),
    ];
    for (upstream, text, part) in cases {
        let error = read(&format!("[gateway.upstreams.\"{upstream}\"]\n{text}")).unwrap_err();
        assert!(error.contains(part), "{text}: {error}");
        assert!(!error.contains("sk ant"), "{error}");
    }
    let models = [
        ("context_tokens = -1", "router.models.m-1.context_tokens: "),
        ("context_tokens = 0", "router.models.\"m-1\".context_tokens: 0 is no room"),
        ("max_output_tokens = 40000", "max_output_tokens: 40000 is not from 1 to"),
        ("input_usd = 1", "output_usd: is missing"),
        ("cache_read_usd = 1", "input_usd: is missing"),
        ("input_usd = -1\noutput_usd = 1", "input_usd: has to be from 0"),
        ("input_usd = nan\noutput_usd = 1", "input_usd: has to be from 0"),
        ("price = 1", "unknown field `price`"),
    ];
    for (text, part) in models {
        let section = format!("[gateway.upstreams.router]\n{compatible}\n");
        let model = format!("{section}[gateway.upstreams.router.models.m-1]\n{text}");
        let error = read(&model).unwrap_err();
        assert!(error.contains(part), "{text}: {error}");
    }
}

#[test]
fn clear_text_is_for_this_machine_alone_unless_it_is_said() {
    for (url, insecure, fine) in [
        ("http://localhost:1/v1", false, true),
        ("http://127.0.0.1", false, true),
        ("http://[::1]:9/", false, true),
        ("http://127.0.0.1.example", false, false),
        ("http://10.0.0.1", false, false),
        ("http://10.0.0.1", true, true),
        ("https://10.0.0.1", false, true),
    ] {
        assert_eq!(checked(url, insecure).is_ok(), fine, "{url}");
    }
}

#[test]
fn what_is_put_into_a_cache_of_anthropic_costs_a_quarter_more_unless_it_is_said() {
    let text = "[gateway.upstreams.anthropic.models.m]\ninput_usd = 4\noutput_usd = 20\n";
    let prices = |text: &str| read(text).unwrap().get("anthropic").unwrap().model("m").prices;
    assert_eq!(prices(text), Some(Prices::of_usd(4.0, 20.0, 4.0, 5.0)));
    let whole = format!("{text}cache_read_usd = 0.4\ncache_write_usd = 8\n");
    assert_eq!(prices(&whole), Some(Prices::of_usd(4.0, 20.0, 0.4, 8.0)));
}

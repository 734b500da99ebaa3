use super::check::PUBLISHED_KEYS;
use super::{ConfigError, ConfigFile};

fn good() -> String {
    let operators: String = PUBLISHED_KEYS[..3]
        .iter()
        .enumerate()
        .map(|(index, key)| {
            format!(
                "[[operators]]\nidentity = \"{key}\"\naddress = \"https://localhost:{}\"\npeer = \"127.0.0.1:{}\"\n",
                8535 + index,
                9535 + index
            )
        })
        .collect();
    format!(
        "network = \"regtest\"\nindex = 0\nthreshold = 2\n\
         [listen]\npublic = \"127.0.0.1:8535\"\npeer = \"127.0.0.1:9535\"\n\
         [database]\nsqlite = \"operator.db\"\n\
         [signer]\nidentity_key = \"identity\"\nvault = \"vault\"\n\
         [bitcoin]\nurl = \"http://127.0.0.1:8332\"\nuser = \"u\"\npassword = \"secret-word\"\n{operators}"
    )
}

fn problems(text: &str) -> Vec<String> {
    match ConfigFile::parse(text).unwrap().check() {
        Err(ConfigError::Bad(bad)) => bad,
        other => panic!("accepted: {other:?}"),
    }
}

#[test]
fn good_file_is_accepted_and_survives_being_written_again() {
    let file = ConfigFile::parse(&good()).unwrap();
    let config = file.check().unwrap();
    assert_eq!(config.operators.len(), 3);
    assert_eq!(config.deposit_confirmations, 3);
    let again = ConfigFile::parse(&file.to_toml().unwrap()).unwrap();
    assert_eq!(again.check().unwrap().public, config.public);
}

#[test]
fn case_65_unknown_key_is_an_error_that_names_it() {
    let error = ConfigFile::parse(&format!("colour = 3\n{}", good())).unwrap_err();
    assert!(error.to_string().contains("colour"), "{error}");
    let error = ConfigFile::parse(&good().replace("[listen]", "[listen]\nlisten = 1")).unwrap_err();
    assert!(error.to_string().contains("listen"), "{error}");
}

#[test]
fn all_bad_values_are_named_at_once() {
    let text = good()
        .replace("threshold = 2", "threshold = 4")
        .replace("index = 0", "index = 7")
        .replace("http://127.0.0.1:8332", "8332")
        .replace("\"127.0.0.1:8535\"", "\"somewhere\"");
    let bad = problems(&text);
    for name in ["threshold", "index", "bitcoin.url", "listen.public"] {
        assert!(
            bad.iter().any(|line| line.starts_with(name)),
            "{name}: {bad:?}"
        );
    }
    assert_eq!(bad.len(), 4);
}

#[test]
fn minority_threshold_is_refused() {
    assert!(
        problems(&good().replace("threshold = 2", "threshold = 1"))[0].contains("more than half")
    );
}

#[test]
fn case_65_published_keys_are_refused_on_every_real_network() {
    for network in ["mainnet", "testnet", "signet"] {
        let bad = problems(&good().replace("regtest", network));
        assert_eq!(
            bad.iter().filter(|line| line.contains("published")).count(),
            3
        );
    }
    assert!(
        ConfigFile::parse(&good().replace("regtest", "local"))
            .unwrap()
            .check()
            .is_ok()
    );
}

#[test]
fn case_65_mock_service_is_refused_outside_local_networks() {
    let text = good().replace("index = 0", "index = 0\nmock = true");
    assert!(ConfigFile::parse(&text).unwrap().check().unwrap().mock);
    assert!(
        problems(&text.replace("regtest", "signet"))
            .iter()
            .any(|line| line.starts_with("mock"))
    );
}

#[test]
fn service_providers_are_listed_by_distinct_keys() {
    let with = |keys: &str| good().replace("index = 0", &format!("index = 0\nssps = [{keys}]"));
    let key = PUBLISHED_KEYS[4];
    let config = ConfigFile::parse(&with(&format!("\"{key}\""))).unwrap();
    assert_eq!(config.check().unwrap().ssps[0].to_string(), key);
    let text = toml::to_string(&config).unwrap();
    assert!(ConfigFile::parse(&text).unwrap().check().is_ok());
    assert!(problems(&with(&format!("\"{key}\", \"{key}\"")))[0].contains("twice"));
    assert!(problems(&with("\"02\""))[0].starts_with("ssps[0]"));
}

#[test]
fn doubled_identity_is_refused() {
    let text = good().replace(PUBLISHED_KEYS[1], PUBLISHED_KEYS[0]);
    assert!(problems(&text)[0].contains("twice"));
}

#[test]
fn passwords_are_not_printed() {
    let config = ConfigFile::parse(&good()).unwrap();
    assert!(!format!("{config:?}").contains("secret-word"));
    assert!(!format!("{:?}", config.check().unwrap()).contains("secret-word"));
}

#[test]
fn two_databases_or_none_are_refused() {
    let text = good().replace("sqlite = \"operator.db\"", "");
    assert!(problems(&text)[0].contains("database"));
    let text = good().replace(
        "sqlite = \"operator.db\"",
        "sqlite = \"a\"\npostgres = \"postgres://localhost/x\"",
    );
    assert!(problems(&text)[0].contains("not both"));
}

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use tinderbox_signer::Identity;

use super::{Finding, Level, Report, examine};
use crate::config::{
    BitcoinSection, ConfigFile, DatabaseSection, Hidden, ListenSection, OperatorSection,
    PoolSection, SignerSection, TlsSection,
};
use crate::limits::Limits;

struct Setup {
    folder: TempDir,
    file: ConfigFile,
}

impl Setup {
    /// An operator that was never started, whose node and peers are not there.
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let key = folder.path().join("identity.key");
        let own = Identity::generate();
        own.save(&key).unwrap();
        let others = [Identity::generate(), Identity::generate()];
        let operators = std::iter::once(&own)
            .chain(&others)
            .zip(1..)
            .map(|(identity, port)| OperatorSection {
                identity: identity.public().to_string(),
                address: format!("https://localhost:{port}"),
                // Nobody listens there.
                peer: format!("127.0.0.1:{port}"),
            })
            .collect();
        let file = ConfigFile {
            network: "regtest".into(),
            index: 0,
            threshold: 2,
            deposit_confirmations: 3,
            exit_confirmations: None,
            mock: false,
            hide_balances: false,
            ssps: Vec::new(),
            listen: ListenSection {
                public: "127.0.0.1:0".into(),
                peer: "127.0.0.1:0".into(),
                metrics: Some("127.0.0.1:9".into()),
            },
            tls: TlsSection::default(),
            database: DatabaseSection {
                sqlite: Some(folder.path().join("rows.sqlite")),
                ..DatabaseSection::default()
            },
            signer: SignerSection {
                identity_key: Some(key),
                vault: Some(folder.path().join("vault")),
                socket: None,
            },
            bitcoin: BitcoinSection {
                url: "http://127.0.0.1:9".into(),
                user: Some("user".into()),
                password: Some(Hidden("secret-password".into())),
                cookie: None,
                start_height: None,
            },
            pool: PoolSection::default(),
            limits: Limits::default(),
            operators,
        };
        Self { folder, file }
    }

    fn write(&self) -> PathBuf {
        let path = self.folder.path().join("operator.toml");
        std::fs::write(&path, self.file.to_toml().unwrap()).unwrap();
        mode(&path, 0o600);
        path
    }

    async fn examine(&self) -> Report {
        examine(&self.write()).await
    }
}

fn mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

fn about<'a>(report: &'a Report, about: &str) -> Vec<&'a Finding> {
    let found: Vec<_> = report
        .findings
        .iter()
        .filter(|finding| finding.about == about)
        .collect();
    assert!(!found.is_empty(), "nothing about {about}: {report}");
    found
}

fn worst(report: &Report, what: &str) -> Level {
    let levels = about(report, what).into_iter().map(|one| one.level);
    levels.max().unwrap()
}

#[tokio::test]
async fn file_that_is_no_configuration_is_named_with_what_to_do() {
    let folder = TempDir::new().unwrap();
    let missing = examine(&folder.path().join("nowhere.toml")).await;
    assert_eq!(missing.exit_code(), 2);
    assert!(missing.findings[0].advice.contains("--config"));

    let mut setup = Setup::new();
    setup.file.threshold = 9;
    setup.file.network = "moon".into();
    let report = setup.examine().await;
    assert_eq!(report.exit_code(), 2);
    assert_eq!(
        about(&report, "configuration").len(),
        2,
        "every bad value: {report}"
    );
}

#[tokio::test]
async fn whatever_is_not_there_is_named_with_what_to_do() {
    let setup = Setup::new();
    let report = setup.examine().await;
    assert_eq!(report.exit_code(), 2);
    assert_eq!(worst(&report, "identity"), Level::Good);
    assert_eq!(worst(&report, "identity key"), Level::Good);
    assert_eq!(worst(&report, "process"), Level::Warning, "it is stopped");
    assert_eq!(
        worst(&report, "database"),
        Level::Warning,
        "before the first start"
    );
    assert_eq!(worst(&report, "vault"), Level::Warning);
    assert_eq!(worst(&report, "node"), Level::Bad);
    assert_eq!(worst(&report, "operator 1"), Level::Bad);
    assert_eq!(worst(&report, "operator 2"), Level::Bad);
    for finding in &report.findings {
        assert_eq!(
            finding.advice.is_empty(),
            finding.level == Level::Good,
            "{finding:?}"
        );
    }
    let text = format!("{report}{}", serde_json_like(&report));
    assert!(!text.contains("secret-password"));
}

fn serde_json_like(report: &Report) -> String {
    format!("{report:?}")
}

#[tokio::test]
async fn keys_that_others_can_read_are_bad() {
    let setup = Setup::new();
    let path = setup.write();
    mode(&path, 0o644);
    mode(&setup.folder.path().join("identity.key"), 0o640);
    let report = examine(&path).await;
    assert_eq!(worst(&report, "identity key"), Level::Bad);
    assert!(
        about(&report, "identity key")[0]
            .advice
            .contains("chmod 600")
    );
    let own = about(&report, "configuration");
    assert!(
        own.iter().any(|one| one.level == Level::Warning),
        "{report}"
    );
}

#[tokio::test]
async fn key_file_of_another_operator_is_bad() {
    let mut setup = Setup::new();
    setup.file.index = 1;
    let report = setup.examine().await;
    assert_eq!(worst(&report, "identity"), Level::Bad);
    assert_eq!(
        worst(&report, "operators"),
        Level::Warning,
        "nobody could be asked"
    );
}

#[tokio::test]
async fn database_that_is_none_is_bad() {
    let setup = Setup::new();
    let rows = setup.folder.path().join("rows.sqlite");
    std::fs::write(&rows, [7; 8192]).unwrap();
    mode(&rows, 0o600);
    let report = setup.examine().await;
    assert_eq!(worst(&report, "database"), Level::Bad, "{report}");
}

#[tokio::test]
async fn signer_that_does_not_answer_is_bad() {
    let mut setup = Setup::new();
    setup.file.signer = SignerSection {
        socket: Some(setup.folder.path().join("no.sock")),
        ..SignerSection::default()
    };
    let report = setup.examine().await;
    assert_eq!(worst(&report, "signer"), Level::Bad);
    assert!(about(&report, "signer")[0].advice.contains("signer run"));
}

#[tokio::test]
async fn certificate_is_looked_at_before_it_ends() {
    let mut setup = Setup::new();
    let chain = setup.folder.path().join("chain.pem");
    let key = setup.folder.path().join("key.pem");
    tinderbox_rpc::tls::Certificate::load_or_create(&chain, &key, &[]).unwrap();
    setup.file.tls = TlsSection {
        certificate: Some(chain.clone()),
        key: Some(key),
        names: Vec::new(),
    };
    assert_eq!(worst(&setup.examine().await, "certificate"), Level::Good);
    std::fs::write(&chain, "no certificate").unwrap();
    assert_eq!(worst(&setup.examine().await, "certificate"), Level::Bad);
}

#[test]
fn exit_status_is_the_worst_finding() {
    let mut report = Report::default();
    assert_eq!(report.exit_code(), 0);
    report.good("a", "well");
    assert_eq!(report.exit_code(), 0);
    report.warning("b", "soon", "act");
    assert_eq!(report.exit_code(), 1);
    report.bad("c", "broken", "act now");
    assert_eq!(report.exit_code(), 2);
}

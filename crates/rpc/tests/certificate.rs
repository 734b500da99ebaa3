//! Certificate files.

use std::path::PathBuf;

use tinderbox_rpc::Error;
use tinderbox_rpc::tls::{Certificate, server_config};

struct Folder {
    _folder: tempfile::TempDir,
    chain: PathBuf,
    key: PathBuf,
}

fn folder() -> Folder {
    let folder = tempfile::tempdir().unwrap();
    let (chain, key) = (
        folder.path().join("tls/cert.pem"),
        folder.path().join("tls/key.pem"),
    );
    Folder {
        _folder: folder,
        chain,
        key,
    }
}

#[test]
fn certificate_is_made_once_and_read_afterwards() {
    let files = folder();
    let names = ["operator.example".to_owned()];
    let made = Certificate::load_or_create(&files.chain, &files.key, &names).unwrap();
    let read = Certificate::load_or_create(&files.chain, &files.key, &[]).unwrap();
    assert_eq!(made.der(), read.der());
    assert_eq!(
        std::fs::read_to_string(&files.chain)
            .unwrap()
            .lines()
            .collect::<Vec<_>>(),
        made.to_pem().lines().collect::<Vec<_>>()
    );
    assert!(server_config(made).is_ok());
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = std::fs::metadata(&files.key).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "others can read the key");
    }
    let drafts = std::fs::read_dir(files.key.parent().unwrap())
        .unwrap()
        .count();
    assert_eq!(drafts, 2, "something was left behind");
}

#[test]
fn process_that_died_between_the_files_leaves_nothing_broken() {
    let files = folder();
    Certificate::load_or_create(&files.chain, &files.key, &[]).unwrap();
    std::fs::remove_file(&files.chain).unwrap();
    let again = Certificate::load_or_create(&files.chain, &files.key, &[]).unwrap();
    assert!(server_config(again).is_ok());
}

#[test]
fn processes_that_start_at_once_agree_on_one_pair() {
    let files = folder();
    let ders: Vec<_> = std::thread::scope(|scope| {
        let start = || {
            let own = Certificate::load_or_create(&files.chain, &files.key, &[]).unwrap();
            let der = own.der().unwrap().to_vec();
            server_config(own).expect("certificate and key of different processes");
            der
        };
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(start)).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    assert!(ders.windows(2).all(|pair| pair[0] == pair[1]));
}

#[test]
fn unusable_files_are_named() {
    let files = folder();
    let error = Certificate::from_pem_files(&files.chain, &files.key)
        .err()
        .unwrap();
    assert!(
        matches!(&error, Error::File { path, .. } if *path == files.chain),
        "{error}"
    );
    Certificate::load_or_create(&files.chain, &files.key, &[]).unwrap();
    let error = Certificate::from_pem_files(&files.key, &files.key)
        .err()
        .unwrap();
    assert!(
        matches!(&error, Error::Pem { path, .. } if *path == files.key),
        "{error}"
    );
    let error = Certificate::from_pem_files(&files.chain, &files.chain)
        .err()
        .unwrap();
    assert!(
        matches!(&error, Error::Pem { path, .. } if *path == files.chain),
        "{error}"
    );
    let other = folder();
    Certificate::load_or_create(&other.chain, &other.key, &[]).unwrap();
    let mixed = Certificate::from_pem_files(&files.chain, &other.key).unwrap();
    assert!(matches!(server_config(mixed), Err(Error::Tls(_))));
}

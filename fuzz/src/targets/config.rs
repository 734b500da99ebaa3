use tinderbox_operator::config::ConfigFile;

pub(super) fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Ok(file) = ConfigFile::parse(text) {
        // Checking names every value that makes no sense; it opens nothing.
        let _ = file.check();
        let again = file.to_toml().expect("it can be printed");
        ConfigFile::parse(&again).expect("what is printed can be read");
    }
    if let Ok(config) = toml::from_str::<tinderbox_wallet::Config>(text) {
        let _ = config.check();
    }
}

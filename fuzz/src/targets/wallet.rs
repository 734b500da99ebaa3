use tinderbox_wallet::Bundle;
use tinderbox_wallet::exit::{ExitPath, ExitState};

pub(super) fn run(data: &[u8]) {
    let Some((choice, bytes)) = super::chosen(data) else {
        return;
    };
    match choice % 3 {
        0 => {
            if let Ok(text) = std::str::from_utf8(bytes)
                && let Ok(bundle) = Bundle::from_json(text)
            {
                let again = bundle.to_json().expect("it can be written");
                Bundle::from_json(&again).expect("what is written can be read");
            }
        }
        1 => {
            let _ = serde_json::from_slice::<ExitState>(bytes);
        }
        _ => {
            let _ = serde_json::from_slice::<ExitPath>(bytes);
        }
    }
}

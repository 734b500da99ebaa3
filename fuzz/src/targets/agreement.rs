use bitcoin::secp256k1::{SECP256K1, SecretKey};
use tinderbox_commit::certificate::is_refusal;
use tinderbox_commit::{Certificate, Message, Reply, SignedVote, step};
use tinderbox_flows::flow::{Flow, Outcome, Output, Site};
use tinderbox_flows::request::Request;
use tinderbox_flows::rows::FlowId;
use tinderbox_frost::OperatorIndex;
use tinderbox_operator::keyshares::{DkgMessage, DkgReply};
use tinderbox_protocol::Network;

fn site() -> Site {
    Site {
        me: OperatorIndex(0),
        operators: (1..=3)
            .map(|byte| {
                SecretKey::from_slice(&[byte; 32])
                    .expect("a key")
                    .public_key(SECP256K1)
            })
            .collect(),
        threshold: 2,
        network: Network::Regtest,
        deposit_confirmations: 3,
        exit_confirmations: 3,
        providers: Vec::new(),
    }
}

fn certificate(certificate: &Certificate) {
    let flow = FlowId([1; 16]);
    // Nobody forges the votes of three operators.
    assert!(certificate.check(&site(), flow, &[0; 32]).is_err());
}

fn vote(vote: &SignedVote) {
    assert!(!is_refusal(&site(), FlowId([1; 16]), vote));
}

fn request(bytes: &[u8]) {
    if let Ok(request) = Request::decode(bytes) {
        let _ = (request.needs(&site()), request.touches(), request.now());
        let again = request.encode().expect("it was decoded");
        Request::decode(&again).expect("it was encoded");
    }
}

pub(super) fn run(data: &[u8]) {
    let Some((choice, bytes)) = super::chosen(data) else {
        return;
    };
    match choice % 8 {
        0 | 1 => {
            if let Ok(message) = postcard::from_bytes::<Message>(bytes) {
                let _ = step::next(None, &message);
                match &message {
                    Message::Prepare { request: bytes, .. } => request(bytes),
                    Message::Commit {
                        certificate: votes, ..
                    }
                    | Message::Finish {
                        certificate: votes, ..
                    } => certificate(votes),
                    Message::Refuse { vote: no, .. } => vote(no),
                    Message::Inquire { .. } => {}
                }
            }
        }
        2 => {
            if let Ok(Reply::Yes(yes)) = postcard::from_bytes::<Reply>(bytes) {
                vote(&yes);
            }
        }
        3 => {
            let _ = postcard::from_bytes::<DkgMessage>(bytes);
            let _ = postcard::from_bytes::<DkgReply>(bytes);
        }
        4 => {
            if let Ok(votes) = postcard::from_bytes::<Certificate>(bytes) {
                certificate(&votes);
            }
            if let Ok(read) = postcard::from_bytes::<SignedVote>(bytes) {
                vote(&read);
            }
        }
        5 => {
            let _ = postcard::from_bytes::<Output>(bytes);
            let _ = postcard::from_bytes::<Outcome>(bytes);
        }
        _ => request(bytes),
    }
}

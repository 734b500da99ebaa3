//! Connections against an operator that behaves as a test says, over real TLS.

use std::sync::Arc;

use tinderbox_frost::OperatorIndex;
use tinderbox_protocol::Network;
use tonic::Code;

use super::Operators;
use crate::config::Config;
use crate::error::Error;
use crate::nodes;
use crate::signer::{MemorySigner, WalletSigner};
use crate::testing::FakeOperator;

struct World {
    fakes: Vec<FakeOperator>,
    operators: Operators,
    signer: Arc<dyn WalletSigner>,
}

impl World {
    async fn new() -> Self {
        let mut config = Config::local(3).unwrap();
        let mut fakes = Vec::new();
        for operator in &mut config.operators {
            let fake = FakeOperator::start().await;
            operator.url = fake.url();
            fakes.push(fake);
        }
        let signer: Arc<dyn WalletSigner> =
            Arc::new(MemorySigner::from_seed(&[1; 32], Network::Local, None).unwrap());
        let operators = Operators::new(&config, &signer).unwrap();
        Self {
            fakes,
            operators,
            signer,
        }
    }

    async fn ask(&self) -> Result<(), Error> {
        let operator = self.operators.coordinator();
        nodes::by_owner(operator, self.signer.identity(), Network::Local)
            .await
            .map(|_| ())
    }
}

#[tokio::test]
async fn one_login_serves_many_calls() {
    let world = World::new().await;
    for _ in 0..5 {
        world.ask().await.unwrap();
    }
    assert_eq!(world.fakes[0].with(|s| (s.logins, s.queries)), (1, 5));
    assert_eq!(
        world.fakes[1].with(|s| s.logins),
        0,
        "nobody else was bothered"
    );
}

#[tokio::test]
async fn calls_at_the_same_time_share_a_login() {
    let world = World::new().await;
    let calls = (0..20).map(|_| world.ask());
    for result in futures::future::join_all(calls).await {
        result.unwrap();
    }
    assert_eq!(world.fakes[0].with(|s| s.logins), 1);
}

#[tokio::test]
async fn a_token_that_is_no_longer_good_is_replaced_and_the_call_repeated() {
    let world = World::new().await;
    world.ask().await.unwrap();
    world.fakes[0].forget_sessions();
    world.ask().await.unwrap();
    assert_eq!(world.fakes[0].with(|s| s.logins), 2);
}

#[tokio::test]
async fn a_token_that_is_about_to_expire_is_not_used() {
    let world = World::new().await;
    world.fakes[0].with(|s| s.lifetime = 30);
    world.ask().await.unwrap();
    world.ask().await.unwrap();
    assert_eq!(world.fakes[0].with(|s| s.logins), 2);
}

#[tokio::test]
async fn an_operator_that_never_takes_our_token_is_an_error_and_not_a_loop() {
    let world = World::new().await;
    world.fakes[0].with(|s| {
        s.refuse
            .extend([(Code::Unauthenticated, "token has expired"); 9])
    });
    let error = world.ask().await.unwrap_err();
    assert!(
        matches!(
            error,
            Error::Refused {
                code: Code::Unauthenticated,
                ..
            }
        ),
        "{error}"
    );
}

#[tokio::test]
async fn a_challenge_that_expired_on_the_way_is_asked_for_again() {
    let world = World::new().await;
    world.fakes[0].with(|s| {
        s.refuse_login
            .extend([(Code::InvalidArgument, "challenge expired"); 3])
    });
    world.ask().await.unwrap();
}

#[tokio::test]
async fn an_operator_that_is_not_available_for_a_moment_is_asked_again() {
    let world = World::new().await;
    world.fakes[0].with(|s| {
        s.refuse.extend([
            (Code::Unavailable, "starting"),
            (Code::Unavailable, "starting"),
        ])
    });
    world.ask().await.unwrap();
}

#[tokio::test]
async fn a_refusal_names_operator_call_and_words() {
    let world = World::new().await;
    world.fakes[0].with(|s| {
        s.refuse
            .push_back((Code::PermissionDenied, "that is not yours"))
    });
    let error = world.ask().await.unwrap_err();
    assert!(
        matches!(
            error,
            Error::Refused {
                operator: OperatorIndex(0),
                call: "query_nodes",
                ..
            }
        ),
        "{error}"
    );
    assert!(error.to_string().contains("that is not yours"));
    assert!(!error.is_temporary());
}

#[tokio::test]
async fn an_operator_that_is_down_is_named_with_its_address() {
    let mut config = Config::local(3).unwrap();
    config.operators[0].url = format!("https://localhost:{}", free_port());
    let signer: Arc<dyn WalletSigner> =
        Arc::new(MemorySigner::from_seed(&[1; 32], Network::Local, None).unwrap());
    let operators = Operators::new(&config, &signer).unwrap();
    let error = nodes::by_owner(operators.coordinator(), signer.identity(), Network::Local)
        .await
        .unwrap_err();
    assert!(
        matches!(
            error,
            Error::Unreachable {
                operator: OperatorIndex(0),
                ..
            }
        ),
        "{error}"
    );
    assert!(error.is_temporary());
    assert!(error.to_string().contains("localhost"), "{error}");
}

#[tokio::test]
async fn one_silent_operator_of_three_is_no_obstacle_and_two_are() {
    let world = World::new().await;
    let ask = |operator: Arc<super::Operator>| {
        let identity = world.signer.identity();
        async move { nodes::by_owner(&operator, identity, Network::Local).await }
    };
    world.fakes[1].with(|s| s.refuse.extend([(Code::Internal, "broken"); 9]));
    assert_eq!(world.operators.ask_all(ask).await.unwrap().len(), 2);
    world.fakes[2].with(|s| s.refuse.extend([(Code::Internal, "broken"); 9]));
    let error = world.operators.ask_all(ask).await.unwrap_err();
    assert!(
        matches!(
            error,
            Error::TooFewOperators {
                answered: 1,
                asked: 3,
                needed: 2,
                ..
            }
        ),
        "{error}"
    );
}

fn free_port() -> u16 {
    std::net::TcpListener::bind(("127.0.0.1", 0))
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

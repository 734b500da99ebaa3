//! One pure state machine per capability: snapshot and request in; effects, signing jobs or a refusal out

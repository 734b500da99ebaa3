//! Simulator, fakes and fixtures

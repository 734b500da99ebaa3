//! The operator's tables: one trait, SQLite, PostgreSQL and an in-memory backend

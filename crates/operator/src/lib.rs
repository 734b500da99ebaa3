//! A Spark operator: services, scheduler, chain duties, limits, metrics

//! gRPC over the service registry.

//! The integration tests: one binary, so that llama.cpp is linked once; one file a promise.

mod support;

mod interrupted;
mod lossless;
mod malformed;
mod readers;
mod tidy;
mod tiny_models;

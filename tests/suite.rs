//! The integration tests: one binary, so that llama.cpp is linked once; one file a promise.

mod support;

mod asr;
mod calibrate;
mod compress;
mod diff;
mod direction;
mod engine;
mod inspect;
mod interrupted;
mod judge;
mod lossless;
mod malformed;
mod manners;
mod merge;
mod names;
mod prompts;
mod prune;
mod quantize;
mod readers;
mod readme;
mod repair;
mod repair_manners;
mod report;
mod scores;
mod search;
mod study;
mod tasks;
mod tidy;
mod tiny_models;
mod undo;
mod verify;

//! The integration tests: one binary, so that llama.cpp is linked once; one file a promise.
#![allow(unreachable_pub)] // a program of its own: nothing is reached from outside

mod support;

mod aborts;
mod aim;
mod amx;
mod architectures;
mod asr;
mod builds;
mod calibrate;
mod compress;
mod diff;
mod direction;
mod engine;
mod finite;
mod inspect;
mod interrupted;
mod judge;
mod lossless;
mod malformed;
mod manners;
mod merge;
mod names;
mod outputs;
mod prompts;
mod prune;
mod quantize;
mod readers;
mod readme;
mod repair;
mod repair_manners;
mod report;
mod reports;
mod restore;
mod scores;
mod search;
mod signals;
mod study;
mod study_repairs;
mod sweep;
mod tasks;
mod texts;
mod tidy;
mod tiny_models;
mod undo;
mod verify;

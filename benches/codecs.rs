//! Rates of the parts: parsing a header with a large vocabulary, decoding and encoding rows.
#![allow(unreachable_pub)] // a program of its own: nothing is reached from outside

use std::hint::black_box;

use aird::gguf::{Builder, GgmlType, Header, Value};
use aird::quant::{decode_rows, encode_rows};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

/// Llama-3's: the largest that is common.
const N_TOKENS: usize = 128_256;
const N_MERGES: usize = 280_147;
const N_COLS: usize = 4096;
const N_ROWS: usize = 1024;

fn header(c: &mut Criterion) {
    let mut file = Builder::new();
    file.kv("general.architecture", "llama");
    file.kv("tokenizer.ggml.tokens", Value::strings((0..N_TOKENS).map(|i| format!("token{i}"))));
    file.kv("tokenizer.ggml.merges", Value::strings((0..N_MERGES).map(|i| format!("a{i} b{i}"))));
    for i in 0..300 {
        let name = format!("blk.{i}.ffn_up.weight");
        file.tensor(&name, &[32], GgmlType::F32, vec![0; 128]).expect("a valid tensor");
    }
    let bytes = file.encode();
    let mut group = c.benchmark_group("header");
    group.throughput(Throughput::Bytes(bytes.len() as u64));
    group.bench_function("parse, 128 k tokens", |b| b.iter(|| Header::parse(black_box(&bytes))));
    group.finish();
}

fn rows(c: &mut Criterion) {
    let values: Vec<f32> = (0..N_COLS * N_ROWS).map(|i| (i as f32 * 0.7).sin()).collect();
    let mut group = c.benchmark_group("rows");
    group.sample_size(10).throughput(Throughput::Elements(values.len() as u64));
    for ty in [GgmlType::F16, GgmlType::Q8_0, GgmlType::Q4_0, GgmlType::Q4_K, GgmlType::Q6_K] {
        let mut bytes = vec![0; ty.bytes_for(values.len() as u64).expect("whole blocks") as usize];
        group.bench_function(format!("encode {ty}"), |b| {
            b.iter(|| encode_rows(ty, &values, N_COLS, None, &mut bytes));
        });
        let mut back = vec![0.0; values.len()];
        group.bench_function(format!("decode {ty}"), |b| {
            b.iter(|| decode_rows(ty, &bytes, N_COLS, &mut back));
        });
    }
    group.finish();
}

criterion_group!(benches, header, rows);
criterion_main!(benches);

//! Files that must be refused, each wrong in one way, written byte by byte: the library's own
//! writer could not make them.

/// A file of the corpus.
#[derive(Debug)]
pub struct Malformed {
    /// Its name under `fixtures/malformed/`, without `.gguf`.
    pub name: &'static str,
    pub bytes: Vec<u8>,
}

/// A header put together by hand. Counts are what was added, unless they are set.
#[derive(Clone)]
struct Raw {
    magic: [u8; 4],
    version: u32,
    n_tensors: Option<u64>,
    n_keys: Option<u64>,
    keys: Vec<Vec<u8>>,
    tensors: Vec<Vec<u8>>,
    data: usize,
}

/// Ids of value types.
const U32: u32 = 4;
const BOOL: u32 = 7;
const STR: u32 = 8;
const ARR: u32 = 9;
/// Ids of tensor types.
const F32: u32 = 0;
const Q8_0: u32 = 8;

fn string(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u64).to_le_bytes()[..], bytes].concat()
}

fn key(name: &[u8], ty: u32, payload: &[u8]) -> Vec<u8> {
    [&string(name)[..], &ty.to_le_bytes(), payload].concat()
}

fn array(element: u32, len: u64, payload: &[u8]) -> Vec<u8> {
    [&element.to_le_bytes()[..], &len.to_le_bytes(), payload].concat()
}

fn tensor(name: &[u8], shape: &[u64], ty: u32, offset: u64) -> Vec<u8> {
    let mut out = string(name);
    out.extend((shape.len() as u32).to_le_bytes());
    out.extend(shape.iter().flat_map(|n| n.to_le_bytes()));
    out.extend(ty.to_le_bytes());
    out.extend(offset.to_le_bytes());
    out
}

impl Raw {
    /// A well-formed file: two keys, two tensors of 64 bytes.
    fn valid() -> Raw {
        Raw {
            magic: *b"GGUF",
            version: 3,
            n_tensors: None,
            n_keys: None,
            keys: vec![
                key(b"general.architecture", STR, &string(b"llama")),
                key(b"general.name", STR, &string(b"Malformed")),
            ],
            tensors: vec![tensor(b"a", &[8, 2], F32, 0), tensor(b"b", &[16], F32, 64)],
            data: 128,
        }
    }

    fn key(mut self, bytes: Vec<u8>) -> Raw {
        self.keys.push(bytes);
        self
    }

    /// With this for its second tensor.
    fn second(mut self, bytes: Vec<u8>) -> Raw {
        self.tensors[1] = bytes;
        self
    }

    fn bytes(&self) -> Vec<u8> {
        let mut out = self.magic.to_vec();
        out.extend(self.version.to_le_bytes());
        out.extend(self.n_tensors.unwrap_or(self.tensors.len() as u64).to_le_bytes());
        out.extend(self.n_keys.unwrap_or(self.keys.len() as u64).to_le_bytes());
        self.keys.iter().chain(&self.tensors).for_each(|part| out.extend(part));
        out.resize(out.len().next_multiple_of(32), 0);
        out.resize(out.len() + self.data, 0x55);
        out
    }
}

/// The well-formed file that the others are bent from.
pub fn valid() -> Vec<u8> {
    Raw::valid().bytes()
}

/// Every file of the corpus.
pub fn corpus() -> Vec<Malformed> {
    let groups = [preamble(), alignment(), keys(), tensors(), places(), cut(), shards(), types()];
    let all = groups.into_iter().flatten();
    all.map(|(name, bytes)| Malformed { name, bytes }).collect()
}

type Files = Vec<(&'static str, Vec<u8>)>;

fn preamble() -> Files {
    let valid = Raw::valid();
    let swapped = |version: u32| Raw { version: version.swap_bytes(), ..valid.clone() }.bytes();
    let version = |version| Raw { version, ..valid.clone() }.bytes();
    vec![
        ("empty-file", Vec::new()),
        ("magic-of-safetensors", b"\x40\0\0\0\0\0\0\0{\"__metadata__\":{}}".to_vec()),
        ("magic-of-ggml", Raw { magic: *b"lmgg", ..valid.clone() }.bytes()),
        ("big-endian-v2", swapped(2)),
        ("big-endian-v3", swapped(3)),
        ("version-0", version(0)),
        ("version-1", version(1)),
        ("version-4", version(4)),
        ("tensor-count-overflows", Raw { n_tensors: Some(u64::MAX), ..valid.clone() }.bytes()),
        ("tensor-count-2-to-60", Raw { n_tensors: Some(1 << 60), ..valid.clone() }.bytes()),
        ("key-count-overflows", Raw { n_keys: Some(u64::MAX), ..valid.clone() }.bytes()),
        ("key-count-too-high", Raw { n_keys: Some(5), ..valid.clone() }.bytes()),
        ("tensor-count-too-high", Raw { n_tensors: Some(4), ..valid }.bytes()),
    ]
}

fn alignment() -> Files {
    let with =
        |ty, payload: &[u8]| Raw::valid().key(key(b"general.alignment", ty, payload)).bytes();
    vec![
        ("alignment-0", with(U32, &0u32.to_le_bytes())),
        ("alignment-3", with(U32, &3u32.to_le_bytes())),
        ("alignment-as-u64", with(10, &32u64.to_le_bytes())),
        ("alignment-as-text", with(STR, &string(b"32"))),
        ("alignment-as-array", with(ARR, &array(U32, 1, &32u32.to_le_bytes()))),
    ]
}

fn keys() -> Files {
    let with = |bytes| Raw::valid().key(bytes).bytes();
    let inner = array(U32, 1, &[0; 4]);
    vec![
        ("key-empty", with(key(b"", BOOL, &[1]))),
        ("key-twice", with(key(b"general.name", STR, &string(b"Another")))),
        ("key-not-utf-8", with(key(b"general.\xff\xfe", BOOL, &[1]))),
        ("key-longer-than-the-file", with([&(1u64 << 20).to_le_bytes()[..], b"x"].concat())),
        ("value-type-13", with(key(b"x", 13, &[0; 8]))),
        ("value-type-max", with(key(b"x", u32::MAX, &[0; 8]))),
        ("array-of-arrays", with(key(b"x", ARR, &array(ARR, 1, &inner)))),
        ("array-of-type-13", with(key(b"x", ARR, &array(13, 1, &[0; 8])))),
        ("array-longer-than-the-file", with(key(b"x", ARR, &array(U32, 1 << 20, &[0; 8])))),
        ("array-of-2-to-31", with(key(b"x", ARR, &array(U32, 1 << 31, &[0; 8])))),
        ("array-count-overflows", with(key(b"x", ARR, &array(U32, u64::MAX, &[0; 8])))),
        ("array-of-texts-cut-off", with(key(b"x", ARR, &array(STR, 1 << 20, &string(b"y"))))),
        ("text-longer-than-the-file", with(key(b"x", STR, &(1u64 << 20).to_le_bytes()))),
        ("text-of-2-to-31", with(key(b"x", STR, &(1u64 << 31).to_le_bytes()))),
        ("text-length-overflows", with(key(b"x", STR, &u64::MAX.to_le_bytes()))),
    ]
}

fn tensors() -> Files {
    let with = |bytes| Raw::valid().second(bytes).bytes();
    let of_type = |ty| with(tensor(b"b", &[32], ty, 64));
    let of_shape = |shape: &[u64]| with(tensor(b"b", shape, F32, 64));
    let i64_max = i64::MAX as u64;
    vec![
        ("tensor-twice", with(tensor(b"a", &[16], F32, 64))),
        ("tensor-name-64-bytes", with(tensor(&[b'x'; 64], &[16], F32, 64))),
        ("tensor-name-not-utf-8", with(tensor(b"b\xc3", &[16], F32, 64))),
        ("tensor-name-overflows", with(u64::MAX.to_le_bytes().to_vec())),
        ("tensor-of-5-dimensions", of_shape(&[1, 1, 1, 1, 16])),
        ("tensor-type-4", of_type(4)),
        ("tensor-type-36", of_type(36)),
        ("tensor-type-9999", of_type(9999)),
        ("tensor-type-negative", of_type(u32::MAX)),
        ("dimension-negative", of_shape(&[u64::MAX])),
        ("dimensions-overflow", of_shape(&[1 << 32, 1 << 32])),
        ("bytes-overflow", of_shape(&[i64_max])),
        ("zero-hides-an-overflow", of_shape(&[0, i64_max, i64_max])),
        ("row-of-48-q8-0", with(tensor(b"b", &[48, 2], Q8_0, 64))),
        ("row-of-1-q4-k", with(tensor(b"b", &[], 12, 64))),
    ]
}

fn places() -> Files {
    let at = |offset| Raw::valid().second(tensor(b"b", &[16], F32, offset)).bytes();
    let first = Raw {
        tensors: vec![tensor(b"a", &[16], F32, 32), tensor(b"b", &[16], F32, 96)],
        ..Raw::valid()
    };
    let swapped = Raw {
        tensors: vec![tensor(b"b", &[16], F32, 64), tensor(b"a", &[16], F32, 0)],
        ..Raw::valid()
    };
    let huge = Raw::valid().second(tensor(b"b", &[1 << 40], F32, 64));
    // Bytes of one fit in an i64, of two in a u64, and 64 more in neither.
    let most: u64 = (1 << 61) - 8;
    let sum = Raw {
        tensors: vec![
            tensor(b"a", &[most], F32, 0),
            tensor(b"b", &[most], F32, most * 4),
            tensor(b"c", &[16], F32, most * 8),
        ],
        ..Raw::valid()
    };
    vec![
        ("offset-leaves-a-gap", at(96)),
        ("offset-overlaps", at(32)),
        ("offset-not-aligned", at(65)),
        ("offset-overflows", at(u64::MAX)),
        ("offset-of-the-first-not-0", first.bytes()),
        ("offsets-not-in-order", swapped.bytes()),
        ("tensor-of-4-tib", huge.bytes()),
        ("sum-of-tensors-overflows", sum.bytes()),
    ]
}

/// The valid file, cut at a place of every kind.
fn cut() -> Files {
    let valid = valid();
    let header = Raw { data: 0, ..Raw::valid() }.bytes().len();
    let at = |n: usize| valid[..n].to_vec();
    vec![
        ("cut-in-the-magic", at(3)),
        ("cut-in-the-version", at(6)),
        ("cut-in-the-counts", at(20)),
        ("cut-in-a-key", at(40)),
        ("cut-in-a-text", at(70)),
        ("cut-in-the-tensors", at(header - 48)),
        ("cut-in-front-of-the-data", at(header)),
        ("cut-in-the-last-tensor", at(valid.len() - 1)),
    ]
}

/// Keys that are known, each of a type that it cannot have.
fn types() -> Files {
    let other = |name: &[u8], ty, payload: &[u8]| {
        let mut raw = Raw::valid();
        // In the place of the well-formed one, where there is one.
        raw.keys.retain(|known| !known.starts_with(&string(name)));
        raw.key(key(name, ty, payload)).bytes()
    };
    let number = 7u32.to_le_bytes();
    vec![
        ("type-of-architecture", other(b"general.architecture", U32, &number)),
        ("type-of-architecture-not-utf-8", other(b"general.architecture", STR, &string(b"\xff"))),
        ("type-of-general-type", other(b"general.type", BOOL, &[1])),
        ("type-of-name", other(b"general.name", U32, &number)),
        ("type-of-block-count-text", other(b"llama.block_count", STR, &string(b"2"))),
        ("type-of-block-count-negative", other(b"llama.block_count", 5, &(-2i32).to_le_bytes())),
        ("type-of-embedding-length", other(b"llama.embedding_length", 6, &64f32.to_le_bytes())),
        ("type-of-context-length", other(b"llama.context_length", ARR, &array(U32, 1, &number))),
        ("type-of-bos", other(b"tokenizer.ggml.bos_token_id", STR, &string(b"<s>"))),
        ("type-of-tokens", other(b"tokenizer.ggml.tokens", ARR, &array(U32, 1, &number))),
        ("type-of-history", other(b"aird.history", STR, &string(b"{}"))),
        ("type-of-history-of-numbers", other(b"aird.history", ARR, &array(U32, 1, &number))),
        ("type-of-split-count", other(b"split.count", STR, &string(b"2"))),
    ]
}

/// Files that say they are shards, but are alone, misnamed, or not what they say.
fn shards() -> Files {
    let raw = |no: u16, count: u16, n_tensors: Vec<u8>| {
        Raw::valid()
            .key(key(b"split.no", 2, &no.to_le_bytes()))
            .key(key(b"split.count", 2, &count.to_le_bytes()))
            .key(key(b"split.tensors.count", 5, &n_tensors))
    };
    let shard = |no, count, n: i32| raw(no, count, n.to_le_bytes().to_vec()).bytes();
    // Names of their own, so that no tensor is in two files.
    let second = |n: i32| {
        let shard = raw(1, 2, n.to_le_bytes().to_vec());
        let tensors = vec![tensor(b"c", &[8, 2], F32, 0), tensor(b"d", &[16], F32, 64)];
        Raw { tensors, ..shard }.bytes()
    };
    let negative = Raw::valid().key(key(b"split.count", 5, &(-2i32).to_le_bytes())).bytes();
    vec![
        ("shard-without-a-number", shard(0, 2, 4)),
        ("shard-count-negative", negative),
        ("shard-alone-00001-of-00002", shard(0, 2, 4)),
        ("shard-of-another-count-00001-of-00003", shard(0, 2, 4)),
        ("shard-of-another-number-00001-of-00002", shard(1, 2, 4)),
        ("shards-share-a-tensor-00001-of-00002", shard(0, 2, 4)),
        ("shards-share-a-tensor-00002-of-00002", shard(1, 2, 4)),
        ("shards-lack-a-tensor-00001-of-00002", shard(0, 2, 5)),
        ("shards-lack-a-tensor-00002-of-00002", second(5)),
        ("shards-both-the-first-00001-of-00002", shard(0, 2, 4)),
        ("shards-both-the-first-00002-of-00002", shard(0, 2, 4)),
    ]
}

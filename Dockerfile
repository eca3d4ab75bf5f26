# aird in a container. NEVER BUILT: no container runs where aird is developed.
#
#   docker build -t aird .
#   docker run --rm -v "$PWD/models:/models" aird inspect model-Q4_K_M.gguf
#
# Models are read and written in /models, by the user 1000.
FROM rust:1-bookworm AS build
RUN apt-get update -qq \
    && apt-get install -qq -y --no-install-recommends cmake clang libclang-dev \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
# Two programs on x86-64: for any CPU, and for CPUs with AVX2 (src/cli/faster.rs).
RUN mkdir /out && cargo build --release --locked --features portable \
    && cp target/release/aird /out/aird \
    && if [ "$(uname -m)" = x86_64 ]; then \
        RUSTFLAGS="-C target-cpu=x86-64-v3" cargo build --release --locked --features portable \
        && cp target/release/aird "/out/aird-$(/out/aird --version | cut -d ' ' -f 2)-v3"; \
    fi

FROM debian:bookworm-slim
RUN useradd --uid 1000 --create-home aird
COPY --from=build /out/ /usr/local/bin/
COPY --from=build /src/LICENSE-MIT /src/LICENSE-APACHE /usr/share/doc/aird/
USER aird
VOLUME /models
WORKDIR /models
ENTRYPOINT ["aird"]
CMD ["--help"]

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
# Any x86-64 CPU with SSE 4.2, or any arm64. For one kind of CPU and faster:
# --build-arg RUSTFLAGS="-C target-cpu=x86-64-v3"
ARG RUSTFLAGS
RUN if [ -z "$RUSTFLAGS" ]; then unset RUSTFLAGS; fi; \
    cargo build --release --locked --features portable

FROM debian:bookworm-slim
RUN useradd --uid 1000 --create-home aird
COPY --from=build /src/target/release/aird /usr/local/bin/aird
COPY --from=build /src/LICENSE-MIT /src/LICENSE-APACHE /usr/share/doc/aird/
USER aird
VOLUME /models
WORKDIR /models
ENTRYPOINT ["aird"]
CMD ["--help"]

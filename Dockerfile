# The images: one binary each, no shell, not root.
#
#   docker build --target sidecar -t restpipe -t restpipe:1.0.0-alpha.1 .
#   docker build --target operator -t restpipe-operator:1.0.0-alpha.1 .
#   docker run --rm --network host restpipe dev

FROM docker.io/library/rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
# The profile is of this very compiler: another one builds without it, and says so.
# What debuggers want is four fifths of the binary; the names in backtraces stay.
RUN RUSTFLAGS="$(sidecar/profile/profile.sh flags)" cargo build --release --locked --package restpipe --bin restpipe \
    && cargo build --profile operator --locked --package restpipe-operator --bin restpipe-operator \
    && mkdir /out \
    && strip --strip-debug -o /out/restpipe target/release/restpipe \
    && strip --strip-debug -o /out/restpipe-operator target/operator/restpipe-operator

FROM gcr.io/distroless/cc-debian12:nonroot AS operator
LABEL org.opencontainers.image.title="restpipe-operator" \
      org.opencontainers.image.description="RestPipe on Kubernetes: controller, injecting webhook and command line" \
      org.opencontainers.image.version="1.0.0-alpha.1" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY LICENSE /LICENSE
COPY --from=build /out/restpipe-operator /restpipe-operator
USER 65532:65532
# Health and metrics, and the webhook.
EXPOSE 8080 9443
ENTRYPOINT ["/restpipe-operator"]

# The last one is what a build without --target makes.
FROM gcr.io/distroless/cc-debian12:nonroot AS sidecar
LABEL org.opencontainers.image.title="restpipe" \
      org.opencontainers.image.description="A node of RestPipe: a durable, mutually authenticated, two-way REST pipe" \
      org.opencontainers.image.version="1.0.0-alpha.1" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY LICENSE /LICENSE
COPY --from=build /out/restpipe /restpipe
USER 65532:65532
# Gateway (loopback only, unless told otherwise), admin, and a server's pipes.
EXPOSE 7070 7071 7072
ENTRYPOINT ["/restpipe"]

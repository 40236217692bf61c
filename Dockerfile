# The service in a container. scripts/check-dockerfile tries its last stage where there is no container engine.
#
# Postgres is outside of it:
#
#   docker build -t signalbox .
#   docker run -p 7600:7600 --env-file signalbox.env -v /etc/signalbox:/etc/signalbox:ro signalbox
#
# with, in signalbox.env, which other users of the machine cannot read:
#
#   SIGNALBOX_DATABASE_URL=postgresql://user:password@host/database?sslmode=verify-full&sslrootcert=/etc/signalbox/postgres-ca.pem
#   SIGNALBOX_TLS_CERTIFICATE=/etc/signalbox/server.pem
#   SIGNALBOX_TLS_KEY=/etc/signalbox/server.key
#   SIGNALBOX_AUTH_TOKENS=/etc/signalbox/tokens.yaml
#
# The server runs as user 10001, who must be able to read these files. Who may call can also be said as
# docs/authentication.md says. Without a certificate, or with nobody who may call, the server says what to give and
# exits, for it listens on every address of the container. SIGNALBOX_INSECURE=true makes it start all the same, and
# everybody who reaches the port may then do everything: publish it to networks that you trust only.
#
# With certificates the health check talks TLS too, and needs
#   SIGNALBOX_SERVER   a name that the certificate has and the container knows, with the port ("jobs.example:7600")
#   SIGNALBOX_TLS_CA   the authority that has signed it, unless it is a public one
# If the server asks clients for certificates (SIGNALBOX_TLS_CLIENT_CA), the health check shows the server's own:
# it must be signed by one of those authorities, and be good for clients too.

FROM swift:6.3-bookworm AS build
RUN apt-get update \
    && apt-get install -y -q --no-install-recommends \
        libnghttp2-dev libpq-dev libprotobuf-c-dev pkg-config zlib1g-dev \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /build
# The packages before the sources, so that they are fetched again only when they change.
COPY Package.* ./
RUN swift package resolve
COPY . .
RUN swift build -c release --static-swift-stdlib --product signalbox \
    && install -D .build/release/signalbox /out/signalbox

FROM debian:bookworm-slim AS runtime
RUN apt-get update \
    && apt-get install -y -q --no-install-recommends \
        ca-certificates libnghttp2-14 libpq5 libprotobuf-c1 libstdc++6 tzdata zlib1g \
    && rm -rf /var/lib/apt/lists/*
RUN groupadd --gid 10001 signalbox \
    && useradd --uid 10001 --gid signalbox --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin signalbox
COPY --from=build /out/signalbox /usr/local/bin/signalbox
USER 10001:10001
EXPOSE 7600
# SIGTERM: no new work, runs may finish, what is left is given back.
STOPSIGNAL SIGTERM
# Docker kills after 10 seconds: by then runs have had their grace, and the rest of the shutdown its time. With a
# longer --stop-timeout it may be longer.
ENV SIGNALBOX_GRACE=5s
ENV SIGNALBOX_LISTEN=0.0.0.0:7600
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s --retries=3 CMD ["signalbox", "health"]
ENTRYPOINT ["signalbox"]
CMD ["serve"]

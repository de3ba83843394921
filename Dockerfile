# Two images around the one binary `ventus`; docs/images.md says what is in them and why.
#
#     make image        or:  docker build --target control-plane --tag ventus/control-plane .
#                            docker build --target agent --tag ventus/agent .
#
# Both run as user 10001, from a read-only root, without capabilities. They write below /data and
# /tmp alone. Nothing in them listens on loopback only: who may reach them is the network's matter.

FROM docker.io/library/rust:1.95-slim-bookworm AS compile
WORKDIR /source
COPY . .
# The caches are the builder's own; what is built leaves them by the copy.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/source/target \
    cargo build --release --locked --package cli \
    && cp target/release/ventus /ventus

# A stage of its own, so that a binary that is there already can take its place:
# --build-context binary=DIRECTORY, with `ventus` in it.
FROM scratch AS binary
COPY --from=compile /ventus /ventus


# All that a control plane needs of Debian: the libraries that it is linked with, and whom to
# trust. No shell, no package manager, no other program. What is known of the packages comes
# along, where scanners look for it in images of this kind.
FROM docker.io/library/debian:bookworm-slim AS small
# The newest of each on purpose: they are security updates.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/*
COPY --from=binary /ventus /usr/local/bin/ventus
RUN mkdir -p /small/data /small/etc/ssl/certs /small/tmp /small/var/lib/dpkg/status.d \
    && for file in /usr/local/bin/ventus $(ldd /usr/local/bin/ventus); do \
         case $file in /*) cp --parents --dereference "$file" /small ;; esac; \
       done \
    && cp /etc/ssl/certs/ca-certificates.crt /small/etc/ssl/certs/ \
    && cp --dereference /etc/os-release /small/etc/os-release \
    && for package in ca-certificates libc6 libgcc-s1; do \
         dpkg --status "$package" >"/small/var/lib/dpkg/status.d/$package"; \
       done \
    && echo 'ventus:x:10001:10001:Ventus:/data:/usr/sbin/nologin' >/small/etc/passwd \
    && echo 'ventus:x:10001:' >/small/etc/group \
    && chown 10001:10001 /small/data \
    && chmod 0711 /small/data \
    && chmod 1777 /small/tmp

FROM scratch AS control-plane
LABEL org.opencontainers.image.title="Ventus control plane" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=small /small /
ENV VENTUS_DATA_DIR=/data \
    VENTUS_LISTEN=0.0.0.0:8080 \
    VENTUS_HUB_LISTEN=0.0.0.0:8081
WORKDIR /data
VOLUME /data
EXPOSE 8080 8081 9464
USER 10001:10001
ENTRYPOINT ["/usr/local/bin/ventus"]
CMD ["control-plane"]


FROM docker.io/library/debian:bookworm-slim AS agent
LABEL org.opencontainers.image.title="Ventus agent" \
      org.opencontainers.image.licenses="Apache-2.0"
# The newest of each on purpose: an old browser is an open door. Fonts: Liberation has the widths
# of the fonts that pages ask for, the two of Noto have the East and the emoji.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends \
       ca-certificates chromium fonts-liberation fonts-noto-cjk fonts-noto-color-emoji tini \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/cache/debconf/*-old /var/log/* \
    && groupadd --gid 10001 ventus \
    && useradd --uid 10001 --gid 10001 --home-dir /data --no-create-home \
       --shell /usr/sbin/nologin ventus \
    && install --directory --owner=10001 --group=10001 --mode=0711 /data
COPY --from=binary /ventus /usr/local/bin/ventus
ENV VENTUS_DATA_DIR=/data \
    VENTUS_LISTEN=0.0.0.0:8080
WORKDIR /data
VOLUME /data
EXPOSE 8080 9464
USER 10001:10001
# An agent reaps what its browsers leave; tini reaps what is left of commands that are run in the
# container beside it.
ENTRYPOINT ["/usr/bin/tini", "--", "/usr/local/bin/ventus"]
CMD ["agent"]

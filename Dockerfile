# Linted in CI; never built there: the build machines have no Docker engine.
# docker build --build-arg EXTRA=gpu -t penstock .
# docker run --read-only --tmpfs /tmp -v models:/models:ro -v cache:/var/cache/penstock \
#   -e PENSTOCK_KAFKA__BOOTSTRAP_SERVERS=… penstock worker
# EXTRA: the runtime: gpu, openvino or cpu; auto: OpenVINO's on x86-64, where it is faster, else ONNX Runtime's own
# EXTRAS: what else an image is for: --build-arg EXTRAS="avro" for a worker on a topic in Avro, "documents s3" for an ingest
ARG EXTRA=auto
ARG EXTRAS=""
FROM python:3.12-slim-bookworm AS build
ARG EXTRA
ARG EXTRAS
ENV UV_PROJECT_ENVIRONMENT=/opt/penstock UV_PYTHON_DOWNLOADS=never UV_LINK_MODE=copy UV_COMPILE_BYTECODE=1
RUN pip install --no-cache-dir uv==0.13.8
WORKDIR /src
COPY pyproject.toml uv.lock README.md LICENSE ./
RUN test "${EXTRA}" != auto || { test "$(uname -m)" = x86_64 && EXTRA=openvino || EXTRA=cpu; }; \
    for extra in ${EXTRA} ${EXTRAS}; do printf -- '--extra %s ' "${extra}"; done > /extras && \
    xargs uv sync --locked --no-install-project < /extras
COPY streams streams
COPY models models
COPY agents agents
RUN xargs uv sync --locked --no-editable < /extras

FROM python:3.12-slim-bookworm AS runtime
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin penstock && \
    install --directory --owner=10001 /var/cache/penstock
COPY --from=build /opt/penstock /opt/penstock
ENV PATH=/opt/penstock/bin:$PATH \
    PENSTOCK_MODEL__DIR=/models \
    PENSTOCK_CACHE_DIR=/var/cache/penstock \
    PENSTOCK_ADMIN__HOST=0.0.0.0 \
    PENSTOCK_LOG__FORMAT=json
USER 10001
EXPOSE 9464
HEALTHCHECK --interval=15s --timeout=5s --start-period=60s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:9464/livez', timeout=4)"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["penstock"]
CMD ["worker"]

FROM runtime AS runtime-auto
FROM runtime AS runtime-cpu
FROM runtime AS runtime-openvino
# an image for GPUs refuses to run without one: on the processor it would be slow, and nobody would know
FROM runtime AS runtime-gpu
ENV PENSTOCK_MODEL__PROVIDER=cuda \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility

# hadolint ignore=DL3006
FROM runtime-${EXTRA}

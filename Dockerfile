FROM python:3.13-slim@sha256:7c61056e61ac89e852de05f3dc6fa51a6dd2181797bceed46aa725dd7cb2cd3b AS build
WORKDIR /source
COPY requirements/run.txt ./requirements/run.txt
RUN python -m venv /opt/persistence \
 && /opt/persistence/bin/pip install --no-cache-dir --require-hashes -r requirements/run.txt
COPY pyproject.toml README.md LICENSE ./
COPY persistence ./persistence
COPY canon ./canon
COPY fit ./fit
COPY migrations ./migrations
RUN /opt/persistence/bin/pip install --no-cache-dir --no-deps --no-build-isolation .

FROM python:3.13-slim@sha256:7c61056e61ac89e852de05f3dc6fa51a6dd2181797bceed46aa725dd7cb2cd3b
RUN useradd --system --create-home --uid 10001 persistence \
 && install -d -o persistence -g persistence -m 700 /data
COPY --from=build /opt/persistence /opt/persistence
ENV PATH=/opt/persistence/bin:$PATH PYTHONUNBUFFERED=1
USER persistence
WORKDIR /home/persistence
ENTRYPOINT ["persistence"]
CMD ["worker"]

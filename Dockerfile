FROM python:3.13-slim AS build
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY persistence ./persistence
COPY canon ./canon
COPY fit ./fit
COPY migrations ./migrations
RUN python -m venv /opt/persistence && /opt/persistence/bin/pip install --no-cache-dir .

FROM python:3.13-slim
RUN useradd --system --create-home --uid 10001 persistence \
 && install -d -o persistence -g persistence -m 700 /data
COPY --from=build /opt/persistence /opt/persistence
ENV PATH=/opt/persistence/bin:$PATH PYTHONUNBUFFERED=1
USER persistence
WORKDIR /home/persistence
ENTRYPOINT ["persistence"]
CMD ["worker"]

# One image for both workers and the simulated model; compose names the command.
FROM python:3.12-slim AS build
WORKDIR /src
COPY constraints.txt pyproject.toml README.md LICENSE ./
COPY forward_worker forward_worker
COPY backward_worker backward_worker
COPY shared shared
RUN python -m venv /opt/backtalk \
 && /opt/backtalk/bin/pip install --no-cache-dir --disable-pip-version-check -c constraints.txt hatchling \
 && /opt/backtalk/bin/pip install --no-cache-dir --disable-pip-version-check -c constraints.txt --no-build-isolation '.[workers,otel]'

FROM python:3.12-slim
COPY --from=build /opt/backtalk /opt/backtalk
ENV PATH=/opt/backtalk/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 10001:10001
CMD ["forward-worker"]

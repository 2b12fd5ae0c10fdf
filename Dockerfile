# CPU:         docker build -t fpdm .
# NVIDIA GPU:  docker build -t fpdm --build-arg TORCH=https://pypi.org/simple . ; then docker run --gpus all
# Use:         docker run --rm -v "$PWD:/work" fpdm sample fpdm-fashion --num-images 40 --out clothes
#
# No image has been built from this file yet: there was no Docker where it was written. Its RUN lines are those of
# README.md, which were tried outside of a container (docs/installation.md).
FROM python:3.12-slim
ARG TORCH=https://download.pytorch.org/whl/cpu
WORKDIR /opt/fpdm
RUN pip install --no-cache-dir torch torchvision --index-url ${TORCH}
COPY pyproject.toml README.md LICENSE ./
COPY src src
RUN pip install --no-cache-dir .
ENV XDG_CACHE_HOME=/work/.cache
WORKDIR /work
ENTRYPOINT ["fpdm"]
CMD ["--help"]

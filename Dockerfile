FROM python:3.11-slim
RUN apt-get update && apt-get install -y --no-install-recommends libgl1 libglib2.0-0 espeak-ng && rm -rf /var/lib/apt/lists/*
WORKDIR /app
COPY pyproject.toml README.md LICENSE NOTICE constraints.txt ./
COPY moda moda
COPY assets assets
# torch's build for processors is a tenth of the default one: --build-arg TORCH="torch --index-url ..." names where it is
ARG TORCH="torch>=2.4"
RUN pip install --no-cache-dir $TORCH \
 && pip install --no-cache-dir ".[serve]" \
 && pip install --no-cache-dir --force-reinstall --no-deps "opencv-python-headless<4.12"
RUN useradd --create-home moda
USER moda
EXPOSE 8000
ENTRYPOINT ["moda", "serve", "--host", "0.0.0.0"]
CMD ["--portrait", "/app/assets/astronaut.jpg", "--voice", "espeak-ng -w {out}"]

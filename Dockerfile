# Two images from one file:
#
#   docker build --target runcounter .    the program alone, for PostgreSQL
#   docker build --target litestream .    with Litestream, for SQLite on a volume
#
# go test ./cmd/runcounter -run Image builds and runs the program in the same way.
#
# The bases are named by the digests of their indexes, which hold for amd64 and
# arm64: a tag is moved, a digest is not. To take a newer one:
#
#   docker buildx imagetools inspect golang:1.26.8

FROM golang:1.26.8@sha256:0f063af2d465d8dcae54cce04278ada488b96f77b42449c8d071e47d016cc65a AS build
WORKDIR /src
# The dependencies are a layer of their own: they change less often than the code.
COPY go.mod go.sum ./
RUN go mod download
COPY . .
# What runcounter version prints. The context has no .git from which Go could read it:
#
#   docker build --build-arg VERSION=v1.2.3 --build-arg REVISION=$(git rev-parse HEAD) .
ARG VERSION= REVISION=
# Static: the image has no libc. Without symbols and paths it is a third smaller.
RUN CGO_ENABLED=0 go build -trimpath -ldflags="-s -w -X github.com/edgaze-ai/runcounter/internal/version.version=$VERSION -X github.com/edgaze-ai/runcounter/internal/version.revision=$REVISION" -o /out/runcounter ./cmd/runcounter
RUN mkdir -p /out/data /out/tmp

FROM golang:1.26.8@sha256:0f063af2d465d8dcae54cce04278ada488b96f77b42449c8d071e47d016cc65a AS build-litestream
RUN CGO_ENABLED=0 GOBIN=/out go install -trimpath -ldflags="-s -w" github.com/benbjohnson/litestream/cmd/litestream@v0.5.18

# SQLite on a volume. A fresh volume belongs to root, so this image starts as
# root, gives it to 65532, and goes on as that.
FROM debian:13.7-slim@sha256:a29215f6a35e51e22adffa17f89e9d2ef06214e64a2bad10d765c46aea49f11f AS litestream
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /out/runcounter /usr/local/bin/
COPY --from=build-litestream /out/litestream /usr/local/bin/
COPY deploy/litestream.yml /etc/litestream.yml
COPY deploy/start-with-litestream /usr/local/bin/
ENTRYPOINT ["start-with-litestream"]

# PostgreSQL. The program, and the certificates that verify the database; no
# shell, no packages. Only /data and /tmp are writable.
FROM scratch AS runcounter
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /out/runcounter /runcounter
COPY --from=build --chown=65532:65532 /out/data /data
COPY --from=build --chown=65532:65532 /out/tmp /tmp
USER 65532:65532
WORKDIR /data
EXPOSE 8080
ENTRYPOINT ["/runcounter"]
CMD ["serve"]

#!/bin/sh
# Pins the images of this overlay by digest, and refuses one that is named by a tag.
#
#   sh images.sh pin REGISTRY/pgben-tasks:VERSION    ask the registries, write pinned-images/
#   sh images.sh check                               every image of the overlay has a digest
#
# `pin` asks with `docker buildx imagetools`; log in first where a registry wants it. Run it again for
# each new version, and for minor releases of the servers: a digest does not move by itself. Keep
# pinned-images/ with the site's other files.
set -eu

fail() {
    echo "error: $1" >&2
    echo "HINT: $2" >&2
    exit "${3:-1}"
}

digest_of() {
    docker buildx imagetools inspect --format '{{.Manifest.Digest}}' "$1"
}

# Writes one entry: $1 is the image as the manifests name it, $2 where it is.
entry() {
    digest=$(digest_of "$2") || fail "no registry answered for the image '$2'" \
        "push it first, and log in where the registry wants it"
    printf '%s\n' "$digest" | grep -Eqx 'sha256:[0-9a-f]{64}' ||
        fail "what was answered for the image '$2' is no digest: '$digest'" \
            "see what \`docker buildx imagetools inspect $2\` says"
    # Without digest and tag; a colon before the last slash is a port's.
    place=$(printf '%s\n' "$2" | sed 's/@.*//; s/:[^:\/]*$//')
    printf '  # %s\n  - name: %s\n    newName: %s\n    digest: %s\n' \
        "$2" "$1" "$place" "$digest"
}

pin() {
    # What the manifests name, but for the program, which is where it was pushed to.
    servers=$(sed -n 's/^ *image: *//p' ../../base/*.yaml | sort -u | grep -vx pgben-tasks)
    new=$(mktemp -d ./pinned-images.XXXXXX)
    trap 'rm -rf "$new"' EXIT
    {
        printf '# Written by images.sh, which asked the registries; do not edit.\n'
        printf 'apiVersion: kustomize.config.k8s.io/v1alpha1\nkind: Component\nimages:\n'
        entry pgben-tasks "$1"
        for image in $servers; do
            entry "${image%%:*}" "$image"
        done
    } > "$new/kustomization.yaml"
    mkdir -p pinned-images
    mv "$new/kustomization.yaml" pinned-images/kustomization.yaml
}

check() {
    test -e pinned-images/kustomization.yaml ||
        fail "the images are not pinned" "sh $0 pin REGISTRY/pgben-tasks:VERSION"
    built=$(kubectl kustomize .)
    images=$(printf '%s\n' "$built" | sed -n 's/^ *\(- \)\{0,1\}image: *//p' | sort -u)
    test -n "$images" || fail "the overlay has no images" "look at \`kubectl kustomize\` of it"
    tagged=$(printf '%s\n' "$images" | grep -Ev '@sha256:[0-9a-f]{64}$' | paste -s -d' ' -) || true
    test -z "$tagged" || fail "images without a digest: $tagged" \
        "sh $0 pin REGISTRY/pgben-tasks:VERSION"
    printf '%s\n' "$images"
}

case "$#:${1:-}" in
    2:pin) cd "$(dirname "$0")" && pin "$2" && check ;;
    1:check) cd "$(dirname "$0")" && check ;;
    *) fail "wrong usage of '$0'" "sh $0 pin REGISTRY/pgben-tasks:VERSION, or sh $0 check" 2 ;;
esac

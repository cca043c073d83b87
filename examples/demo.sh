#!/usr/bin/env bash
# Serves examples/django with a given Monoceros binary: `examples/demo.sh BINARY [HOST:PORT] [OPTION...]`.
# Called by `make demo`, which builds the binary first. PYTHON names the interpreter to use (3.9 or newer).
set -euo pipefail

binary=$(realpath "$1")
bind=${2:-127.0.0.1:8000}
shift $(($# > 1 ? 2 : 1))
cd "$(dirname "$0")/django"

python=${PYTHON:-python3}
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 9))' || {
    echo "demo: $python is older than 3.9; name another one: make demo PYTHON=python3.12" >&2
    exit 1
}
if [[ ! -x .venv/bin/python ]] || ! cmp -s requirements.txt .venv/installed.txt; then
    "$python" -m venv --clear .venv || {
        echo "demo: $python cannot make virtual environments; on Debian and Ubuntu: apt-get install python3-venv" >&2
        exit 1
    }
    .venv/bin/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
    cp requirements.txt .venv/installed.txt
fi
export VIRTUAL_ENV=$PWD/.venv PATH=$PWD/.venv/bin:$PATH
mkdir -p media
python manage.py migrate --verbosity 0
python manage.py collectstatic --noinput --verbosity 0
python manage.py ensure_user admin admin

cat <<END

  The Monoceros shop   http://$bind/
  admin                http://$bind/admin/          name admin, password admin
  uploads              http://$bind/uploads/        the edge keeps the upload until it is whole
  protected download   from the list of uploads     Django checks, the edge sends (X-Accel-Redirect)
  CSV                  http://$bind/products.csv
  a page that streams  http://$bind/stream/
  static files         http://$bind/static/         sent by the edge from examples/django/staticfiles

  Ctrl-C ends it.

END
exec "$binary" shop.wsgi -w 2 -b "$bind" \
    --static /static/=./staticfiles \
    --accel /protected/=./media \
    --client-max-body-size 32m "$@"

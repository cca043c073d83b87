"""Settings of the example site, as they would be in production but for the sqlite file.

DEBUG is off: Monoceros serves the static files (`--static /static/=staticfiles`), not Django.
"""

import contextlib
import os
import secrets
from pathlib import Path

BASE_DIR = Path(__file__).resolve().parent.parent
# Where everything the site writes goes; the end-to-end tests point it at a directory of their own.
DATA_DIR = Path(os.environ.get("SHOP_DATA_DIR", BASE_DIR))


def secret_key():
    """The key from the environment, else one made on the first start and kept beside the database."""
    if key := os.environ.get("SHOP_SECRET_KEY"):
        return key
    path = DATA_DIR / ".secret-key"
    if not path.exists():
        # Written aside and linked into place: of several processes that start at once, one sets the key
        # and nobody ever reads half of it.
        draft = DATA_DIR / f".secret-key.{os.getpid()}"
        with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(secrets.token_urlsafe(48))
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)
        draft.unlink()
    return path.read_text()


SECRET_KEY = secret_key()
DEBUG = os.environ.get("SHOP_DEBUG") == "1"
ALLOWED_HOSTS = os.environ.get("SHOP_ALLOWED_HOSTS", "127.0.0.1,localhost,[::1]").split(",")

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "catalogue",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
ROOT_URLCONF = "shop.urls"
WSGI_APPLICATION = "shop.wsgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": DATA_DIR / "db.sqlite3",
        # Several workers write: wait for the lock instead of failing at once.
        "OPTIONS": {"timeout": 20},
    },
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

LANGUAGE_CODE = "en"
TIME_ZONE = "UTC"
USE_TZ = True

STATIC_URL = "/static/"
STATIC_ROOT = DATA_DIR / "staticfiles"
# Uploads have no URL of their own: what a visitor sent must never come back as a page of this site.
# They leave through `catalogue.views.download`, which checks the login first.
MEDIA_ROOT = DATA_DIR / "media"
# The edge's internal prefix for MEDIA_ROOT (`--accel /protected/=media`). Empty: no such edge in front,
# and Django hands the file over itself, through wsgi.file_wrapper.
ACCEL_PREFIX = os.environ.get("SHOP_ACCEL_PREFIX", "/protected/")

LOGIN_REDIRECT_URL = "/"
LOGOUT_REDIRECT_URL = "/"

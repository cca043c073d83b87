"""`manage.py ensure_user NAME PASSWORD`: make the superuser when there is none of that name."""

from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand


class Command(BaseCommand):
    help = "Creates the superuser NAME with PASSWORD; one that exists is left as it is."

    def add_arguments(self, parser):
        parser.add_argument("name")
        parser.add_argument("password")

    def handle(self, *, name, password, **options):
        users = get_user_model().objects
        if not users.filter(username=name).exists():
            users.create_superuser(name, password=password)
            self.stdout.write(f"created the user {name}")

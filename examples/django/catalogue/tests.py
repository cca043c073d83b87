"""The site by itself, without a server: `manage.py test`."""

import hashlib
import shutil
import tempfile
from decimal import Decimal

from django.contrib.auth import get_user_model
from django.core.files.uploadedfile import SimpleUploadedFile
from django.core.management import call_command
from django.test import TestCase, override_settings

from .models import Product, Upload


class Pages(TestCase):
    def test_the_sample_products_are_there_and_escaped(self):
        page = self.client.get("/").content.decode()
        self.assertIn("Star chart", page)
        self.assertIn("Walnut &amp; leather &lt;folding&gt;", page)

    def test_csv_quotes_its_fields(self):
        Product.objects.create(name='A "b", c', price=Decimal("1.50"))
        answer = self.client.get("/products.csv")
        self.assertEqual(answer["Content-Disposition"], 'attachment; filename="products.csv"')
        self.assertIn(b'"A ""b"", c",1.50,0\r\n', answer.content)

    def test_the_stream_has_as_many_lines_as_asked(self):
        answer = self.client.get("/stream/?lines=3&pause=0")
        self.assertEqual(answer["X-Accel-Buffering"], "no")
        page = b"".join(answer.streaming_content)
        self.assertEqual(page.count(b"<li>line "), 3)
        self.assertTrue(page.rstrip().endswith(b"</html>"))

    def test_the_stream_takes_no_nonsense(self):
        page = b"".join(self.client.get("/stream/?lines=1&pause=-inf").streaming_content)
        self.assertEqual(page.count(b"<li>line "), 1)
        page = b"".join(self.client.get("/stream/?lines=x&pause=0").streaming_content)
        self.assertEqual(page.count(b"<li>line "), 12)

    def test_login_and_logout(self):
        call_command("ensure_user", "ada", "secret", verbosity=0)
        answer = self.client.post("/accounts/login/", {"username": "ada", "password": "secret"})
        self.assertRedirects(answer, "/")
        self.assertIn("Log out ada", self.client.get("/").content.decode())
        self.assertEqual(self.client.get("/admin/").status_code, 200)
        self.assertRedirects(self.client.post("/accounts/logout/"), "/")

    def test_ensure_user_leaves_one_that_exists(self):
        get_user_model().objects.create_user("ada", password="first")
        call_command("ensure_user", "ada", "second", verbosity=0)
        self.assertTrue(self.client.login(username="ada", password="first"))


class Uploads(TestCase):
    def setUp(self):
        media = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, media)
        settings = override_settings(MEDIA_ROOT=media)
        settings.enable()
        self.addCleanup(settings.disable)
        self.client.force_login(get_user_model().objects.create_user("ada"))

    def send(self, content=b"ring", name="a é.txt"):
        return self.client.post("/uploads/", {"file": SimpleUploadedFile(name, content)}, follow=True)

    def test_an_upload_shows_its_size_and_digest(self):
        content = bytes(range(256)) * 20_000
        page = self.send(content).content.decode()
        self.assertIn(hashlib.sha256(content).hexdigest(), page)
        self.assertIn("5120000", page)
        with Upload.objects.get().file.open("rb") as stored:
            self.assertEqual(stored.read(), content)

    def test_an_empty_file_is_a_file(self):
        self.assertIn(hashlib.sha256(b"").hexdigest(), self.send(b"").content.decode())

    def test_a_form_without_a_file_says_so(self):
        self.assertContains(self.client.post("/uploads/"), "This field is required")

    @override_settings(ACCEL_PREFIX="/protected/")
    def test_a_download_is_handed_to_the_edge(self):
        self.send()
        upload = Upload.objects.get()
        answer = self.client.get(f"/uploads/{upload.pk}/")
        self.assertTrue(answer["X-Accel-Redirect"].startswith("/protected/uploads/a_"))
        self.assertTrue(answer["X-Accel-Redirect"].isascii())
        self.assertEqual(answer["Content-Disposition"], "attachment; filename*=UTF-8''a%20%C3%A9.txt")
        self.assertEqual(answer.content, b"")

    @override_settings(ACCEL_PREFIX="")
    def test_without_such_an_edge_django_sends_it(self):
        self.send()
        answer = self.client.get(f"/uploads/{Upload.objects.get().pk}/")
        self.assertEqual(b"".join(answer.streaming_content), b"ring")

    def test_a_download_is_its_owners_alone(self):
        self.send()
        address = f"/uploads/{Upload.objects.get().pk}/"
        self.client.force_login(get_user_model().objects.create_user("eve"))
        self.assertEqual(self.client.get(address).status_code, 404)
        self.client.logout()
        self.assertRedirects(self.client.get(address), f"/accounts/login/?next={address}")

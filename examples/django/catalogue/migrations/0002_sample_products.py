"""A few products, so that the first visit shows something."""

from django.db import migrations

PRODUCTS = [
    ("Astrolabe", "Brass, 14 cm, with five plates for northern latitudes.", "240.00", 3),
    ("Horn, single", "Narwhal in all but name: turned from limewood.", "85.50", 1),
    ("Lantern", "Copper with mica windows; burns eight hours.", "39.90", 24),
    ("Star chart", "Sheet 12: Monoceros, Gemini and Canis Minor. Café paper, 60 × 80 cm.", "18.00", 120),
    ("Travelling desk", "Walnut & leather <folding>, with an inkwell.", "310.25", 0),
]


def add(apps, schema_editor):
    product = apps.get_model("catalogue", "Product")
    for name, description, price, in_stock in PRODUCTS:
        product.objects.get_or_create(
            name=name, defaults={"description": description, "price": price, "in_stock": in_stock}
        )


class Migration(migrations.Migration):
    dependencies = [("catalogue", "0001_initial")]
    operations = [migrations.RunPython(add, migrations.RunPython.noop)]

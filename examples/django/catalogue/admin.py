"""The catalogue in the admin."""

from django.contrib import admin

from .models import Product, Upload


@admin.register(Product)
class ProductAdmin(admin.ModelAdmin):
    list_display = ["name", "price", "in_stock"]
    list_editable = ["price", "in_stock"]
    search_fields = ["name", "description"]


@admin.register(Upload)
class UploadAdmin(admin.ModelAdmin):
    list_display = ["original_name", "size", "sha256", "uploaded_by", "uploaded_at"]
    readonly_fields = ["size", "sha256", "uploaded_at"]

"""Addresses of the catalogue."""

from django.urls import path

from . import views

app_name = "catalogue"
urlpatterns = [
    path("", views.index, name="index"),
    path("products.csv", views.products_csv, name="products-csv"),
    path("stream/", views.stream, name="stream"),
    path("uploads/", views.uploads, name="uploads"),
    path("uploads/<int:pk>/", views.download, name="download"),
]

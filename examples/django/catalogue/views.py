"""The pages: a list, a CSV, a stream, uploads and their protected downloads."""

import csv
import hashlib
import time
from urllib.parse import quote

from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import FileResponse, HttpResponse, StreamingHttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.template.loader import render_to_string
from django.views.decorators.http import require_http_methods, require_safe

from .forms import UploadForm
from .models import Product, Upload


@require_safe
def index(request):
    return render(request, "catalogue/index.html", {"products": Product.objects.all()})


@require_safe
def products_csv(request):
    response = HttpResponse(
        content_type="text/csv; charset=utf-8",
        headers={"Content-Disposition": 'attachment; filename="products.csv"'},
    )
    table = csv.writer(response)
    table.writerow(["name", "price", "in_stock"])
    for product in Product.objects.iterator():
        table.writerow([product.name, product.price, product.in_stock])
    return response


@require_safe
def stream(request):
    """A page whose lines arrive one by one: `?lines=` (1 to 100) and `?pause=` (0 to 2 seconds)."""
    lines = min(max(number(request.GET.get("lines"), 12), 1), 100)
    pause = min(max(number(request.GET.get("pause"), 0.3), 0), 2)

    def page():
        yield render_to_string("catalogue/stream_head.html", request=request)
        for line in range(1, lines + 1):
            yield f"<li>line {int(line)} at {time.strftime('%H:%M:%S')}</li>\n"
            time.sleep(pause)
        yield render_to_string("catalogue/stream_tail.html", request=request)

    # Without this the edge gathers the answer to free the worker early; here each line is to be seen at once.
    return StreamingHttpResponse(page(), headers={"X-Accel-Buffering": "no"})


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def uploads(request):
    form = UploadForm(request.POST, request.FILES) if request.method == "POST" else UploadForm()
    if form.is_valid():
        sent = form.cleaned_data["file"]
        digest = hashlib.sha256()
        for chunk in sent.chunks():
            digest.update(chunk)
        upload = Upload.objects.create(
            file=sent,
            original_name=sent.name,
            size=sent.size,
            sha256=digest.hexdigest(),
            uploaded_by=request.user,
        )
        messages.success(request, f"Stored {upload.original_name}: {upload.size} bytes, sha256 {upload.sha256}")
        return redirect("catalogue:uploads")
    own = Upload.objects.filter(uploaded_by=request.user)
    return render(request, "catalogue/uploads.html", {"form": form, "uploads": own})


@login_required
@require_safe
def download(request, pk):
    """Django decides who may have the file; the edge sends it, and the worker is free meanwhile."""
    upload = get_object_or_404(Upload, pk=pk, uploaded_by=request.user)
    if not settings.ACCEL_PREFIX:
        return FileResponse(
            upload.file.open("rb"),
            as_attachment=True,
            filename=upload.original_name,
            content_type="application/octet-stream",
        )
    return HttpResponse(
        content_type="application/octet-stream",
        headers={
            "Content-Disposition": f"attachment; filename*=UTF-8''{quote(upload.original_name, safe='')}",
            "X-Accel-Redirect": settings.ACCEL_PREFIX + quote(upload.file.name),
        },
    )


def number(text, default):
    """`text` as a number of the same type as `default`, or `default` when it is none."""
    try:
        value = type(default)(text)
    except (TypeError, ValueError):
        return default
    return value if value == value else default  # NaN is no number of seconds

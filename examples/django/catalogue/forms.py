"""The upload form."""

from django import forms


class UploadForm(forms.Form):
    file = forms.FileField(max_length=255, allow_empty_file=True)

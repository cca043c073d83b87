"""What an application can do to the caches in front of it.

An answer is tagged by its own fields, `Cache-Tag: page, item-7` or `Surrogate-Key: page item-7`. When what the tag stands
for has changed:

    import monoceros.cache
    monoceros.cache.purge("item-7")
"""

__all__ = ["purge"]

_link = None


def purge(*tags):
    """Removes what carries one of these tags from all caches of this server, and returns how many answers that were.

    Once it has returned, nobody is answered with them any more, nor with what was being made of the application meanwhile.
    A tag is a text without spaces or commas. Outside of a worker that takes requests it raises RuntimeError.
    """
    if not tags:
        raise TypeError("purge() needs a tag")
    words = []
    for tag in tags:
        if not isinstance(tag, str):
            raise TypeError("a tag is a str, not %s" % type(tag).__name__)
        word = tag.encode("utf-8")
        if not word or any(byte <= 32 or byte in (44, 127) for byte in word):
            raise ValueError("a tag has no spaces, commas or control characters, and is not empty: %r" % tag)
        if _link is not None and len(word) > _link.MOST_TAGS:
            raise ValueError("a tag of %d bytes is too long" % len(word))
        words.append(word)
    if _link is None:
        raise RuntimeError("monoceros.cache.purge() works in a worker of monoceros only")
    removed = 0
    message = b""
    for word in words:
        if message and len(message) + 1 + len(word) > _link.MOST_TAGS:
            removed += _link.purge(message)
            message = b""
        message = message + b" " + word if message else word
    return removed + _link.purge(message)

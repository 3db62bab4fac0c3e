"""The description of the JSON API, made from the same models that read its requests."""

from collections.abc import Iterable, Mapping
from typing import Any

from tomolive import __version__
from tomolive.view.requests import REQUESTS
from tomolive.view.runs import FILES

_ERROR = {
    "description": "refused, and why",
    "content": {
        "application/json": {"schema": {"type": "object", "properties": {"error": {"type": "string"}}}}
    },
}
_PLACES = {
    "position": "z of xy, y of xz, x of yz, detector row of a sinogram; default: the plane of the results",
    "tilt": "degrees, of an oblique plane",
    "turn": "degrees, of an oblique plane",
    "offset": "of an oblique plane from the middle, pixels",
}


def describe_api(planes: Iterable[str], media: Mapping[str, str]) -> dict[str, Any]:
    """Return the OpenAPI document.

    Parameters
    ----------
    planes
        What there are pictures of.
    media
        Formats of a picture and their media types.
    """
    schemas: dict[str, Any] = {}
    paths: dict[str, Any] = {
        "/api/state": {"get": _get("The state: every field of the status, and which pictures there are")},
        "/api/runs": {"get": _get("Running and finished scans, newest first")},
        "/api/runs/{run}/{file}": {"get": _file()},
        "/api/runs/{run}/volume.{format}": {"get": _volume()},
        "/api/slices/{plane}.{format}": {"get": _picture(planes, media)},
    }
    for name, model in REQUESTS.items():
        schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
        schemas |= schema.pop("$defs", {})
        schema["properties"].pop("type")
        paths[f"/api/{name}"] = {"post": {
            "summary": (model.__doc__ or "").strip(),
            "security": [{}, {"token": []}],
            "requestBody": {"required": True, "content": {"application/json": {"schema": schema}}},
            "responses": {"202": {"description": "on its way"}, "403": _ERROR, "422": _ERROR},
        }}  # fmt: skip
    return {
        "openapi": "3.1.0",
        "info": {"title": "tomolive page", "version": __version__},
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _get(summary: str) -> dict[str, Any]:
    answer = {"description": "the answer", "content": {"application/json": {}}}
    return {"summary": summary, "responses": {"200": answer}}


_RUN = {
    "name": "run", "in": "path", "required": True, "schema": {"type": "string"},
    "description": "`folder` of a scan that /api/runs lists",
}  # fmt: skip


def _chosen(name: str, values: Iterable[str]) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "schema": {"enum": list(values)}}


def _file() -> dict[str, Any]:
    return {
        "summary": "A file of the results of a finished scan",
        "parameters": [_RUN, _chosen("file", FILES)],
        "responses": {"200": {"description": "the file"}, "404": _ERROR, "502": _ERROR},
    }


def _volume() -> dict[str, Any]:
    about = "where the slice of png and tif lies: one of z, y and x, by default z = 0"
    at = {"in": "query", "description": about, "schema": {"type": "integer", "minimum": 0}}
    return {
        "summary": "The volume of a scan in the catalog: where it is (json), or one slice of it",
        "parameters": [
            _RUN, _chosen("format", ("json", "png", "tif")), *({"name": name, **at} for name in "zyx"),
        ],
        "responses": {"200": {"description": "the answer"}, "404": _ERROR, "502": _ERROR},
    }  # fmt: skip


def _picture(planes: Iterable[str], media: Mapping[str, str]) -> dict[str, Any]:
    def place(name: str, text: str) -> dict[str, Any]:
        return {"name": name, "in": "query", "description": text, "schema": {"type": "number"}}

    return {
        "summary": "One picture, float32 as it was reconstructed; drawn for you if nobody looks at it",
        "parameters": [
            _chosen("plane", planes), _chosen("format", media), *(place(*item) for item in _PLACES.items()),
        ],
        "responses": {
            "200": {
                "description": "the picture; the header Tomolive-Picture tells in JSON of which scan it is, "
                "and how it was made",
                "content": {medium: {} for medium in media.values()},
            },
            "404": _ERROR, "422": _ERROR, "504": _ERROR,
        },
    }  # fmt: skip

"""Fails when an OpenAPI document is not valid 3.1, or an example in it does not fit its schema.

    check_document.py URL
"""

import json
import sys
import urllib.request

from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

HTTP_METHODS = {"get", "put", "post", "delete", "options", "head", "patch", "trace"}


def resolve(document, part):
    while "$ref" in part:
        target = document
        for step in part["$ref"].removeprefix("#/").split("/"):
            target = target[step.replace("~1", "/").replace("~0", "~")]
        part = target
    return part


def fits(document, where, schema, value):
    """References in a schema are to the document, so it is checked as a part of it."""
    whole = {**schema, "components": document["components"]}
    checker = Draft202012Validator.FORMAT_CHECKER
    for error in Draft202012Validator(whole, format_checker=checker).iter_errors(value):
        yield f"{where}: {error.json_path}: {error.message}"


def contents(document, operation):
    """Every place of an operation that has a schema and an example."""
    for parameter in operation.get("parameters", []):
        yield parameter["name"], resolve(document, parameter)
    for kind, content in operation.get("requestBody", {}).get("content", {}).items():
        yield f"request {kind}", content
    for status, answer in operation["responses"].items():
        answer = resolve(document, answer)
        for name, header in answer.get("headers", {}).items():
            yield f"{status} {name}", resolve(document, header)
        for kind, content in answer.get("content", {}).items():
            yield f"{status} {kind}", content


def faults(document):
    for error in OpenAPIV31SpecValidator(document).iter_errors():
        yield f"not valid: {error.json_path}: {error.message}"
    for name, schema in document["components"]["schemas"].items():
        for field, part in schema.get("properties", {}).items():
            if "example" in part:
                yield from fits(document, f"{name}/{field}", part, part["example"])
    for path, item in document["paths"].items():
        for method in item.keys() & HTTP_METHODS:
            for place, content in contents(document, item[method]):
                if "example" in content:
                    where = f"{method} {path} {place}"
                    yield from fits(document, where, content["schema"], content["example"])


def main():
    with urllib.request.urlopen(sys.argv[1]) as answer:
        document = json.load(answer)
    found = list(faults(document))
    print("\n".join(found))
    sys.exit(1 if found else 0)


main()

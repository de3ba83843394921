"""Reads queries in PromQL, and tells which metrics and labels they name.

The arguments are queries; the answer is a JSON array with `[metric, [label, …]]` of each selector
and `[null, [label, …]]` of each grouping. A query that cannot be read ends it with an error.
"""

import json
import sys

import promql_parser as promql


def named_by(query):
    found = []

    def look(node):
        if isinstance(node, promql.VectorSelector):
            found.append([node.name, [m.name for m in node.matchers.matchers]])
        elif isinstance(node, promql.MatrixSelector):
            look(node.vector_selector)
        elif isinstance(node, promql.AggregateExpr) and node.modifier:
            found.append([None, list(node.modifier.labels)])

    promql.walk(promql.parse(query), look)
    return found


print(json.dumps([named for query in sys.argv[1:] for named in named_by(query)]))

# SPDX-License-Identifier: MIT
"""The HTTP service behind the tools of tmdevlab.py: `shop_service.py PORT`.

    GET /products/search?category=C&min_price=A&max_price=B&limit=N    GET /products/ID    POST /cart/calculate

A hundred thousand products in memory, the same ones in each run.  Answers of searches are kept, so that its own work is
small beside that of the server in front of it.
"""

import asyncio
import functools
import json
import random
import sys
from urllib.parse import parse_qs

CATEGORIES = ("Electronics", "Books", "Home", "Toys", "Garden", "Sports", "Music", "Food", "Health", "Office")
PRODUCTS = 100_000
HEAD = b"HTTP/1.1 %d OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"


def product(id):
    chance = random.Random(id)
    category = CATEGORIES[id % len(CATEGORIES)]
    return {
        "id": id,
        "sku": f"SKU-{id:06}",
        "name": f"{category} {id}",
        "category": category,
        "price": round(chance.uniform(1, 2000), 2),
        "rating": round(chance.uniform(1, 5), 1),
    }


@functools.cache
def products():
    return [product(id) for id in range(1, PRODUCTS + 1)]


@functools.cache
def search(query):
    asked = {name: values[0] for name, values in parse_qs(query).items()}
    low, high = float(asked["min_price"]), float(asked["max_price"])
    found = [one for one in products() if one["category"] == asked["category"] and low <= one["price"] <= high]
    shown = [{name: one[name] for name in ("id", "sku", "name", "price", "rating")} for one in found]
    return json.dumps({"total_found": len(found), "products": shown[: int(asked["limit"])]}).encode()


@functools.cache
def one(id):
    return json.dumps(products()[id - 1]).encode()


def calculated(body):
    order = json.loads(body)
    items = order["items"]
    total = sum(products()[item["product_id"] - 1]["price"] * item["quantity"] for item in items)
    return json.dumps({"order_id": f"ORD-{order['user_id']}-{len(items)}", "total": round(total, 2)}).encode()


def answer(method, path, body):
    if path == "/cart/calculate" and method == "POST":
        return 200, calculated(body)
    if path.startswith("/products/search?"):
        return 200, search(path.partition("?")[2])
    if path.startswith("/products/"):
        return 200, one(int(path.rpartition("/")[2]))
    return 404, b"{}"


class Service(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport
        self.buffer = b""

    def data_received(self, data):
        self.buffer += data
        while (end := self.buffer.find(b"\r\n\r\n")) >= 0:
            lines = self.buffer[:end].decode("latin-1").split("\r\n")
            fields = dict(line.lower().split(":", 1) for line in lines[1:])
            size = int(fields.get("content-length", 0))
            if len(self.buffer) < end + 4 + size:
                return
            body, self.buffer = self.buffer[end + 4 : end + 4 + size], self.buffer[end + 4 + size :]
            method, path, _ = lines[0].split(" ")
            try:
                status, said = answer(method, path, body)
            except (KeyError, ValueError, IndexError):
                status, said = 400, b"{}"
            self.transport.write(HEAD % (status, len(said), said))


async def main():
    products()
    server = await asyncio.get_running_loop().create_server(Service, "127.0.0.1", int(sys.argv[1]), backlog=1024)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())

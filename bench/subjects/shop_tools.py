# SPDX-License-Identifier: MIT
"""The three tools of tmdevlab.py for servers in Python: aiohttp for the service, redis-py with hiredis for Redis.

    tools = Tools(SERVICE, REDIS)      then give tools.search_products, .get_user_cart and .checkout to a server

Each runs the work on Redis beside the request to the service.  A result is the JSON text that the server sends.
"""

import asyncio
import json

import aiohttp
import redis.asyncio


class Tools:
    def __init__(self, service, store):
        self.service = service
        self.store = redis.asyncio.Redis.from_url(store, decode_responses=True, max_connections=100)
        self.http = None

    async def ask(self, method, path, body=None):
        if self.http is None:  # its event loop has to run
            self.http = aiohttp.ClientSession(self.service, connector=aiohttp.TCPConnector(limit=100))
        async with self.http.request(method, path, json=body) as answer:
            return await answer.json()

    async def search_products(self, category: str, min_price: float, max_price: float, limit: int) -> str:
        "Products of a category, by price, with their rank among the popular ones."
        path = f"/products/search?category={category}&min_price={min_price:g}&max_price={max_price:g}&limit={limit}"
        found, names = await asyncio.gather(self.ask("GET", path), self.store.zrevrange("bench:popular", 0, 9))
        ids = [int(name.removeprefix("product:")) for name in names]
        ranks = {id: place for place, id in enumerate(ids, 1)}
        for product in found["products"]:
            product["popularity_rank"] = ranks.get(product["id"], 0)
        return json.dumps({**found, "category": category, "top10_popular_ids": ids})

    async def get_user_cart(self, user_id: str) -> str:
        "The cart of a user, and the last orders."
        cart = await self.store.hgetall(f"bench:cart:{user_id}")
        items = json.loads(cart["items"])
        product, history = await asyncio.gather(
            self.ask("GET", f"/products/{items[0]['product_id'] if items else 1}"),
            self.store.lrange(f"bench:history:{user_id}", 0, 4),
        )
        kept = {"items": items, "item_count": len(items), "estimated_total": float(cart["total"])}
        orders = [json.loads(order) for order in history]
        said = {"user_id": user_id, "cart": kept, "first_product": product["name"], "recent_history": orders}
        return json.dumps(said)

    async def checkout(self, user_id: str, items: list[dict[str, int]]) -> str:
        "Order the items of a cart."
        order = {"user_id": user_id, "items": items}
        steps = self.store.pipeline(transaction=False)
        steps.incr(f"bench:ratelimit:user-{int(user_id.rpartition('-')[2]) % 100:05}")
        steps.rpush(f"bench:history:{user_id}", json.dumps(order))
        steps.zincrby("bench:popular", 1, f"product:{items[0]['product_id'] if items else 1}")
        priced, (count, _, _) = await asyncio.gather(self.ask("POST", "/cart/calculate", order), steps.execute())
        return json.dumps(
            {
                "order_id": priced["order_id"],
                "user_id": user_id,
                "total": priced["total"],
                "items_count": len(items),
                "rate_limit_count": count,
                "status": "confirmed",
            }
        )

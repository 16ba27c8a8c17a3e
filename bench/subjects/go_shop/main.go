// SPDX-License-Identifier: MIT

// The tools of tmdevlab.py on the official Go SDK: `shop PORT SERVICE REDIS`. JSON answers, no sessions.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"strconv"
	"strings"

	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/redis/go-redis/v9"
)

type search struct {
	Category string  `json:"category"`
	MinPrice float64 `json:"min_price"`
	MaxPrice float64 `json:"max_price"`
	Limit    int     `json:"limit"`
}

type user struct {
	UserID string `json:"user_id"`
}

type item struct {
	ProductID int `json:"product_id"`
	Quantity  int `json:"quantity"`
}

type order struct {
	UserID string `json:"user_id"`
	Items  []item `json:"items"`
}

var (
	service string
	store   *redis.Client
	client  *http.Client
)

func ask(ctx context.Context, method, path string, body any) (map[string]any, error) {
	var sent io.Reader
	if body != nil {
		data, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		sent = bytes.NewReader(data)
	}
	request, err := http.NewRequestWithContext(ctx, method, service+path, sent)
	if err != nil {
		return nil, err
	}
	answer, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	var found map[string]any
	err = json.NewDecoder(answer.Body).Decode(&found)
	if err == nil {
		_, err = io.Copy(io.Discard, answer.Body) // so that the connection is used again
	}
	return found, err
}

// both runs the request to the service beside the work on Redis.
func both(ctx context.Context, method, path string, body any, work func() error) (map[string]any, error) {
	done := make(chan error, 1)
	go func() { done <- work() }()
	found, err := ask(ctx, method, path, body)
	if failed := <-done; err == nil {
		err = failed
	}
	return found, err
}

func text(value any) (*mcp.CallToolResult, any, error) {
	data, err := json.Marshal(value)
	return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: string(data)}}}, nil, err
}

func searchProducts(ctx context.Context, _ *mcp.CallToolRequest, in search) (*mcp.CallToolResult, any, error) {
	path := fmt.Sprintf("/products/search?category=%s&min_price=%g&max_price=%g&limit=%d",
		in.Category, in.MinPrice, in.MaxPrice, in.Limit)
	var names []string
	found, err := both(ctx, "GET", path, nil, func() (err error) {
		names, err = store.ZRevRange(ctx, "bench:popular", 0, 9).Result()
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	ids, ranks := []int{}, map[int]int{}
	for place, name := range names {
		if id, err := strconv.Atoi(strings.TrimPrefix(name, "product:")); err == nil {
			ids, ranks[id] = append(ids, id), place+1
		}
	}
	products, _ := found["products"].([]any)
	for _, one := range products {
		product := one.(map[string]any)
		product["popularity_rank"] = ranks[int(product["id"].(float64))]
	}
	found["category"], found["top10_popular_ids"] = in.Category, ids
	return text(found)
}

func getUserCart(ctx context.Context, _ *mcp.CallToolRequest, in user) (*mcp.CallToolResult, any, error) {
	cart, err := store.HGetAll(ctx, "bench:cart:"+in.UserID).Result()
	if err != nil {
		return nil, nil, err
	}
	var items []item
	if err := json.Unmarshal([]byte(cart["items"]), &items); err != nil {
		return nil, nil, err
	}
	first := 1
	if len(items) > 0 {
		first = items[0].ProductID
	}
	var kept []string
	product, err := both(ctx, "GET", fmt.Sprintf("/products/%d", first), nil, func() (err error) {
		kept, err = store.LRange(ctx, "bench:history:"+in.UserID, 0, 4).Result()
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	history := []any{}
	for _, one := range kept {
		var order any
		if json.Unmarshal([]byte(one), &order) == nil {
			history = append(history, order)
		}
	}
	total, _ := strconv.ParseFloat(cart["total"], 64)
	return text(map[string]any{
		"user_id":        in.UserID,
		"cart":           map[string]any{"items": items, "item_count": len(items), "estimated_total": total},
		"first_product":  product["name"],
		"recent_history": history,
	})
}

func checkout(ctx context.Context, _ *mcp.CallToolRequest, in order) (*mcp.CallToolResult, any, error) {
	number, _ := strconv.Atoi(in.UserID[strings.LastIndex(in.UserID, "-")+1:])
	first := 1
	if len(in.Items) > 0 {
		first = in.Items[0].ProductID
	}
	entry, err := json.Marshal(in)
	if err != nil {
		return nil, nil, err
	}
	var count *redis.IntCmd
	priced, err := both(ctx, "POST", "/cart/calculate", in, func() error {
		steps := store.Pipeline()
		count = steps.Incr(ctx, fmt.Sprintf("bench:ratelimit:user-%05d", number%100))
		steps.RPush(ctx, "bench:history:"+in.UserID, entry)
		steps.ZIncrBy(ctx, "bench:popular", 1, fmt.Sprintf("product:%d", first))
		_, err := steps.Exec(ctx)
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	return text(map[string]any{
		"order_id":         priced["order_id"],
		"user_id":          in.UserID,
		"total":            priced["total"],
		"items_count":      len(in.Items),
		"rate_limit_count": count.Val(),
		"status":           "confirmed",
	})
}

func main() {
	service = os.Args[2]
	options, err := redis.ParseURL(os.Args[3])
	if err != nil {
		log.Fatal(err)
	}
	options.PoolSize = 100
	store = redis.NewClient(options)
	client = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 100}}
	server := mcp.NewServer(&mcp.Implementation{Name: "shop", Version: "1"}, nil)
	mcp.AddTool(server, &mcp.Tool{Name: "search_products", Description: "Products of a category, by price."}, searchProducts)
	mcp.AddTool(server, &mcp.Tool{Name: "get_user_cart", Description: "The cart of a user, and the last orders."}, getUserCart)
	mcp.AddTool(server, &mcp.Tool{Name: "checkout", Description: "Order the items of a cart."}, checkout)
	how := &mcp.StreamableHTTPOptions{JSONResponse: true, Stateless: true}
	handler := mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return server }, how)
	mux := http.NewServeMux()
	mux.Handle("/mcp", handler)
	log.Fatal(http.ListenAndServe("127.0.0.1:"+os.Args[1], mux))
}

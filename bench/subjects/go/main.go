// SPDX-License-Identifier: MIT

// The official Go SDK: `subject PORT [json] [stateless] [store]`.
package main

import (
	"context"
	"fmt"
	"log"
	"net/http"
	"os"
	"slices"
	"strconv"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

type numbers struct {
	A int `json:"a"`
	B int `json:"b"`
}

type count struct {
	N int `json:"n"`
}

type words struct {
	Text string `json:"text"`
}

type wait struct {
	Seconds float64 `json:"seconds"`
}

func text(value string) *mcp.CallToolResult {
	return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: value}}}
}

func add(_ context.Context, _ *mcp.CallToolRequest, in numbers) (*mcp.CallToolResult, any, error) {
	return text(strconv.Itoa(in.A + in.B)), nil, nil
}

func ticks(ctx context.Context, request *mcp.CallToolRequest, in count) (*mcp.CallToolResult, any, error) {
	token := request.Params.GetProgressToken()
	for i := 1; i <= in.N; i++ {
		params := &mcp.ProgressNotificationParams{ProgressToken: token, Progress: float64(i), Total: float64(in.N)}
		if err := request.Session.NotifyProgress(ctx, params); err != nil {
			return nil, nil, err
		}
	}
	return text("done"), nil, nil
}

func echo(_ context.Context, _ *mcp.CallToolRequest, in words) (*mcp.CallToolResult, any, error) {
	return text(in.Text), nil, nil
}

func sleep(_ context.Context, _ *mcp.CallToolRequest, in wait) (*mcp.CallToolResult, any, error) {
	time.Sleep(time.Duration(in.Seconds * float64(time.Second)))
	return text("slept"), nil, nil
}

func main() {
	server := mcp.NewServer(&mcp.Implementation{Name: "subject", Version: "1"}, nil)
	mcp.AddTool(server, &mcp.Tool{Name: "add", Description: "Add two numbers."}, add)
	mcp.AddTool(server, &mcp.Tool{Name: "ticks", Description: "Report progress n times."}, ticks)
	mcp.AddTool(server, &mcp.Tool{Name: "echo", Description: "Say it again."}, echo)
	mcp.AddTool(server, &mcp.Tool{Name: "sleep", Description: "Wait."}, sleep)
	for i := range 96 {
		mcp.AddTool(server, &mcp.Tool{Name: fmt.Sprintf("extra_%d", i), Description: "Another tool."}, add)
	}
	given := func(word string) bool { return slices.Contains(os.Args[2:], word) }
	options := &mcp.StreamableHTTPOptions{JSONResponse: given("json"), Stateless: given("stateless")}
	if given("store") {
		options.EventStore = mcp.NewMemoryEventStore(nil)
	}
	handler := mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return server }, options)
	mux := http.NewServeMux()
	mux.Handle("/mcp", handler)
	log.Fatal(http.ListenAndServe("127.0.0.1:"+os.Args[1], mux))
}

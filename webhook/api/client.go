package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/edgaze-ai/runcounter/internal/version"
	"github.com/edgaze-ai/runcounter/webhook/problem"
)

// maxAnswer bounds the bytes that are read of an answer.
const maxAnswer = 64 << 20

// Refusal is the answer of a server that did not take a request.
type Refusal struct {
	Code     int
	Status   string // with the code
	Location string // of a redirect
	Detail   string // of the problem document; empty where the answer is none
}

func (r *Refusal) Error() string {
	switch {
	case r.Location != "" && r.Code/100 == 3:
		return fmt.Sprintf("the server answered %s, to %s: webhooks don't follow redirects, so name that address with --url", r.Status, r.Location)
	case r.Detail == "":
		return fmt.Sprintf("the server answered %s, which is not an answer of Run Counter: is --url right?", r.Status)
	}
	return fmt.Sprintf("the server answered %s: %s", r.Status, r.Detail)
}

// Send sends a request and returns the body of the answer 200.
//
// Errors: *[Refusal] for any other answer, and those of the client.
func Send(client *http.Client, req *http.Request) ([]byte, error) {
	res, err := client.Do(req) //nolint:gosec // the operator names the address
	if err != nil {
		return nil, fmt.Errorf("no answer from the server: %w; is it running, and is --url right?", err)
	}
	text, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err = errors.Join(err, res.Body.Close()); err != nil {
		return nil, fmt.Errorf("read the answer: %w", err)
	}
	if res.StatusCode == http.StatusOK {
		return text, nil
	}
	refused := &Refusal{Code: res.StatusCode, Status: res.Status, Location: res.Header.Get("Location")}
	var said problem.Problem
	if json.Unmarshal(text, &said) == nil {
		refused.Detail = said.Detail
	}
	return nil, refused
}

// NewDelivery returns a request that delivers a body to a receiver.
func NewDelivery(ctx context.Context, url string, body []byte) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err == nil {
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("User-Agent", version.This().UserAgent())
	}
	return req, err
}

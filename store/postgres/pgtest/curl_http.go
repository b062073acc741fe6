package pgtest

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
)

// message is a request to one receiver.
type message struct {
	method  string
	to      *url.URL
	headers []string
	body    []byte
	hasty   bool // don't ask before a large body
}

func (m message) expects() bool { return len(m.body) > curlExpect && !m.hasty }

// head is the beginning of a request, in curl's order.
func (m message) head() string {
	var b strings.Builder
	own := map[string]bool{}
	for _, h := range m.headers {
		name, _, _ := strings.Cut(h, ":")
		own[strings.ToLower(name)] = true
	}
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\n", m.method, m.to.RequestURI())
	if !own["host"] {
		fmt.Fprintf(&b, "Host: %s\r\n", m.to.Host)
	}
	if user := m.to.User; user != nil && !own["authorization"] {
		password, _ := user.Password()
		r := http.Request{Header: http.Header{}}
		r.SetBasicAuth(user.Username(), password)
		fmt.Fprintf(&b, "Authorization: %s\r\n", r.Header.Get("Authorization"))
	}
	if !own["accept"] {
		b.WriteString("Accept: */*\r\n")
	}
	for _, h := range m.headers {
		if _, value, _ := strings.Cut(h, ":"); strings.TrimSpace(value) != "" { // one without a value is left out
			b.WriteString(h + "\r\n")
		}
	}
	b.WriteString("User-Agent: pg_net/" + netVersion + "\r\n")
	if m.method == http.MethodPost || m.body != nil {
		fmt.Fprintf(&b, "Content-Length: %d\r\n", len(m.body))
	}
	if m.expects() {
		b.WriteString("Expect: 100-continue\r\n")
	}
	return b.String() + "\r\n"
}

// netResponse is an answer with all of its body.
type netResponse struct {
	status  int
	headers map[string]string // named as they came
	body    []byte
	keep    bool // the connection
}

func (r *netResponse) header(name string) (string, bool) {
	for key, value := range r.headers {
		if strings.EqualFold(key, name) {
			return value, true
		}
	}
	return "", false
}

func (r *netResponse) contentType() (string, bool) { return r.header("Content-Type") }

func (r *netResponse) location() (string, bool) {
	location, ok := r.header("Location")
	return location, ok && r.status >= 300 && r.status < 400
}

var errNoAnswer = errors.New("closed without an answer")

// exchange writes a request and reads its answer, which may come before all is
// written. The connection is closed where it fails.
func (c *netConn) exchange(ctx context.Context, m message, sent func()) (response *netResponse, err error) {
	unwatch := context.AfterFunc(ctx, func() { _ = c.Close() })
	written, goOn, over := make(chan error, 1), make(chan struct{}), make(chan struct{})
	go func() {
		err := c.write(m, goOn, over)
		sent()
		written <- err
	}()
	response, err = c.read(m.method, sync.OnceFunc(func() { close(goOn) }))
	close(over)
	if !c.writtenOut(written) && err == nil {
		response.keep = false
	}
	if !unwatch() && err == nil {
		response.keep = false
	}
	if err != nil {
		_ = c.Close()
	}
	return response, err
}

// writtenOut reports whether all of a request was written, of which nothing
// more will be read. A writer that still writes is given up after a moment.
func (c *netConn) writtenOut(written <-chan error) bool {
	timer := time.NewTimer(100 * time.Millisecond)
	defer timer.Stop()
	select {
	case err := <-written:
		return err == nil
	case <-timer.C:
		_ = c.Close()
		return <-written == nil
	}
}

// write writes the request; a large body after the receiver has asked for it,
// or has said nothing for a second.
func (c *netConn) write(m message, goOn, over <-chan struct{}) error {
	head := []byte(m.head())
	if !m.expects() {
		_, err := c.Write(append(head, m.body...))
		return err
	}
	if _, err := c.Write(head); err != nil {
		return err
	}
	timer := time.NewTimer(curlExpectWait)
	defer timer.Stop()
	select {
	case <-over:
		return errors.New("answered before its body was sent")
	case <-goOn:
	case <-timer.C:
	}
	_, err := c.Write(m.body)
	return err
}

func (c *netConn) read(method string, goOn func()) (*netResponse, error) {
	if _, err := c.in.Peek(1); err != nil {
		words := curlBrokenOff
		if errors.Is(err, io.EOF) {
			words = curlNothing
		}
		return nil, &curlError{words, errors.Join(errNoAnswer, err)}
	}
	for {
		head, headers, err := c.readHead()
		if err != nil {
			return nil, &curlError{curlBrokenOff, err}
		}
		// What bufio reads beyond the answer is nothing: we send one at a time.
		parsed, err := http.ReadResponse(bufio.NewReader(io.MultiReader(bytes.NewReader(head), c.in)), &http.Request{Method: method})
		if err != nil {
			return nil, &curlError{curlWeird, err}
		}
		if parsed.StatusCode == http.StatusContinue {
			goOn()
		}
		if parsed.StatusCode < 200 {
			continue
		}
		body, err := io.ReadAll(parsed.Body)
		_ = parsed.Body.Close()
		if err != nil {
			return nil, &curlError{curlPartial, err}
		}
		return &netResponse{status: parsed.StatusCode, headers: headers, body: body, keep: !parsed.Close}, nil
	}
}

// readHead reads up to the empty line, and keeps the names of headers as they
// came.
func (c *netConn) readHead() (head []byte, headers map[string]string, err error) {
	headers = map[string]string{}
	for {
		line, err := c.in.ReadBytes('\n')
		head = append(head, line...)
		if err != nil {
			return nil, nil, err
		}
		trimmed := strings.TrimRight(string(line), "\r\n")
		if trimmed == "" {
			return head, headers, nil
		}
		if name, value, ok := strings.Cut(trimmed, ":"); ok {
			headers[name] = strings.TrimSpace(value)
		}
	}
}

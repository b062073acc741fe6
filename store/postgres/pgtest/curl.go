package pgtest

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"syscall"
	"time"
)

// An HTTP client with the habits of curl, by which pg_net sends: Go's own
// repeats requests by other rules, and writes headers in its own way.

// The texts of curl_easy_strerror, before 8.10 in the case of the first.
const (
	curlRefused      = "Couldn't connect to server"
	curlUnresolved   = "Couldn't resolve host name"
	curlNothing      = "Server returned nothing (no headers, no data)"
	curlBrokenOff    = "Failure when receiving data from the peer"
	curlPartial      = "Transferred a partial file"
	curlGaveUp       = "Failed sending data to the peer"
	curlRedirects    = "Number of redirects hit maximum amount"
	curlScheme       = "Unsupported protocol"
	curlURL          = "URL using bad/illegal format or missing URL"
	curlWeird        = "Weird server reply"
	curlCertificate  = "SSL peer certificate or SSH remote key was not OK"
	curlHandshake    = "SSL connect error"
	curlRetries      = 5  // of one request, on connections that were used before
	curlMaxRedirects = 30 // as since 8.3
	curlExpect       = 1 << 20
	curlExpectWait   = time.Second
)

type netRequest struct {
	ID      int64
	Method  string
	URL     string
	Headers []string // each "name: value", in the order of jsonb
	Body    []byte
	Timeout int32 // milliseconds; 0 is for ever
}

// netAnswer is a row of net._http_response.
type netAnswer struct {
	id                                 int64
	status                             *int32
	contentType, content, errorMessage *string
	headers                            map[string]string
	timedOut                           bool
}

// netConn is a connection, and the receiver that it leads to.
type netConn struct {
	net.Conn
	raw    net.Conn // beneath TLS
	key    string
	in     *bufio.Reader
	reused bool
}

// closedByPeer reports whether the receiver has closed an idle connection, or
// sent bytes unasked: curl looks before it uses one again.
func (c *netConn) closedByPeer() bool {
	s, ok := c.raw.(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := s.SyscallConn()
	if err != nil {
		return true
	}
	open := false
	err = raw.Read(func(fd uintptr) bool {
		_, _, err := syscall.Recvfrom(int(fd), make([]byte, 1), syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		open = errors.Is(err, syscall.EAGAIN)
		return true
	})
	return err != nil || !open
}

// netClient keeps connections that are not in use.
type netClient struct {
	mu   sync.Mutex
	idle map[string][]*netConn
}

// take returns an idle connection to a receiver, or nil.
func (n *netClient) take(key string) *netConn {
	n.mu.Lock()
	defer n.mu.Unlock()
	for len(n.idle[key]) > 0 {
		c := n.idle[key][0]
		n.idle[key] = n.idle[key][1:]
		if !c.closedByPeer() {
			c.reused = true
			return c
		}
		_ = c.Close()
	}
	return nil
}

func (n *netClient) give(c *netConn) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.idle[c.key] = append(n.idle[c.key], c)
}

func (n *netClient) close() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, conns := range n.idle {
		for _, c := range conns {
			_ = c.Close()
		}
	}
	n.idle = map[string][]*netConn{}
}

// key returns the host and port of a request, or nothing where they can't be told.
func (r *netRequest) key() string {
	u, err := url.Parse(r.URL)
	if err != nil {
		return ""
	}
	return keyOf(u)
}

func keyOf(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	return u.Scheme + "://" + net.JoinHostPort(u.Hostname(), port)
}

// curlError is a failure with curl's words for it.
type curlError struct {
	words string
	cause error
}

func (e *curlError) Error() string { return fmt.Sprintf("%s: %v", e.words, e.cause) }
func (e *curlError) Unwrap() error { return e.cause }

// clock keeps the times that the text of a timeout tells.
type clock struct {
	began, connected time.Time
}

func (c clock) timeout(limit int32) string {
	total := time.Since(c.began)
	handshake, transfer := total, time.Duration(0)
	if !c.connected.IsZero() {
		handshake = c.connected.Sub(c.began)
		transfer = total - handshake
	}
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	return fmt.Sprintf("Timeout of %d ms reached. Total time: %f ms (DNS time: %f ms, TCP/SSL handshake time: %f ms, HTTP Request/Response time: %f ms)",
		limit, ms(total), 0.0, ms(handshake), ms(transfer))
}

// do sends a request, on the connection where there is one, and follows where
// it is redirected to. It calls sent when the first attempt is written.
func (n *netClient) do(ctx context.Context, r *netRequest, conn *netConn, sent func()) netAnswer {
	if r.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Duration(r.Timeout)*time.Millisecond)
		defer cancel()
	}
	times := clock{began: time.Now()}
	answer := netAnswer{id: r.ID}
	response, headers, err := n.follow(ctx, r, conn, &times, sent)
	if err != nil {
		words := curlWeird
		var known *curlError
		switch {
		case errors.Is(ctx.Err(), context.DeadlineExceeded):
			answer.timedOut = true
			words = times.timeout(r.Timeout)
		case errors.As(err, &known):
			words = known.words
		}
		answer.errorMessage = &words
		return answer
	}
	status := int32(response.status)
	answer.status = &status
	answer.headers = headers // those of the first response, while the rest is of the last
	if value, ok := response.contentType(); ok {
		answer.contentType = &value
	}
	content, _, _ := bytes.Cut(response.body, []byte{0}) // as a C string ends
	if len(content) > 0 {
		text := strings.ToValidUTF8(string(content), "�")
		answer.content = &text
	}
	return answer
}

// follow sends a request where it goes, and then where it is redirected to.
func (n *netClient) follow(ctx context.Context, r *netRequest, conn *netConn, times *clock, sent func()) (last *netResponse, firstHeaders map[string]string, err error) {
	u, err := url.Parse(r.URL)
	if err != nil {
		return nil, nil, &curlError{curlURL, err}
	}
	m := message{method: strings.ToUpper(r.Method), headers: r.Headers, body: r.Body}
	start := keyOf(u)
	for range curlMaxRedirects + 1 {
		m.to = u
		if u.Scheme != "http" && u.Scheme != "https" {
			return nil, nil, &curlError{curlScheme, errors.New(u.Scheme)}
		}
		if last, err = n.deliver(ctx, m, conn, times, sent); err != nil {
			return nil, nil, err
		}
		conn = nil
		if firstHeaders == nil {
			firstHeaders = last.headers
		}
		location, redirected := last.location()
		if !redirected {
			return last, firstHeaders, nil
		}
		if u, err = u.Parse(location); err != nil {
			return nil, nil, &curlError{curlURL, err}
		}
		if m.method == http.MethodPost && last.status >= 301 && last.status <= 303 {
			m.method, m.body = http.MethodGet, nil
		}
		if keyOf(u) != start { // credentials are for the first receiver alone
			m.headers = without(m.headers, "authorization", "cookie")
		}
	}
	return nil, nil, &curlError{curlRedirects, errors.New(r.URL)}
}

func without(headers []string, names ...string) []string {
	var left []string
next:
	for _, h := range headers {
		for _, name := range names {
			if strings.HasPrefix(strings.ToLower(h), name+":") {
				continue next
			}
		}
		left = append(left, h)
	}
	return left
}

// deliver sends a message to one receiver. A connection that was used before
// may be closed just then; a request that such a one has eaten is sent again.
func (n *netClient) deliver(ctx context.Context, m message, conn *netConn, times *clock, sent func()) (*netResponse, error) {
	for retries := 0; ; {
		if conn == nil {
			conn = n.take(keyOf(m.to))
		}
		if conn == nil {
			var err error
			if conn, err = dial(ctx, m.to); err != nil {
				return nil, err
			}
		}
		times.connected = time.Now()
		c := conn
		conn = nil
		response, err := c.exchange(ctx, m, sent)
		switch {
		case err == nil && response.keep:
			n.give(c)
		case err == nil:
			_ = c.Close()
		case errors.Is(err, errNoAnswer) && c.reused && ctx.Err() == nil:
			if retries++; retries > curlRetries {
				return nil, &curlError{curlGaveUp, err}
			}
			continue
		default:
			return nil, err
		}
		if response.status == http.StatusExpectationFailed && m.expects() {
			m.hasty = true
			continue
		}
		return response, nil
	}
}

func dial(ctx context.Context, u *url.URL) (*netConn, error) {
	key := keyOf(u)
	_, host, _ := strings.Cut(key, "://")
	var dialer net.Dialer
	raw, err := dialer.DialContext(ctx, "tcp", host)
	var unresolved *net.DNSError
	switch {
	case errors.As(err, &unresolved):
		return nil, &curlError{curlUnresolved, err}
	case err != nil:
		return nil, &curlError{curlRefused, err}
	}
	c := &netConn{Conn: raw, raw: raw, key: key}
	if u.Scheme == "https" {
		secure := tls.Client(raw, &tls.Config{ServerName: u.Hostname(), MinVersion: tls.VersionTLS12})
		if err := secure.HandshakeContext(ctx); err != nil {
			_ = raw.Close()
			words := curlHandshake
			if refused := new(tls.CertificateVerificationError); errors.As(err, &refused) {
				words = curlCertificate
			}
			return nil, &curlError{words, err}
		}
		c.Conn = secure
	}
	c.in = bufio.NewReader(c.Conn)
	return c, nil
}

package main

import (
	"context"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

func TestCaseD15_ReadyzIs503ForAMomentBeforeTheListenerCloses(t *testing.T) {
	t.Parallel()
	p := listens(t, t.TempDir(), nil, "--drain", "4s")
	if a := ask(t, http.MethodGet, p.url+"/readyz", ""); a.status != http.StatusOK {
		t.Fatalf("before the signal: got %+v, want 200", a)
	}
	signalled := time.Now()
	p.Process.Signal(syscall.SIGTERM)
	if _, ok := p.await("stopping"); !ok {
		t.Fatalf("serve ended without a word:\n%s", p.said())
	}
	awaitReady(t, p.url, http.StatusServiceUnavailable)
	if status := deliverOnce(http.DefaultClient, p.url, 1); status != http.StatusOK {
		t.Errorf("a delivery meanwhile: got %d, want 200", status)
	}
	if code := p.end(); code != exitFine {
		t.Errorf("exit code %d, want 0\n%s", code, p.said())
	}
	if took := time.Since(signalled); took < 4*time.Second {
		t.Errorf("it ended after %s, want the four seconds that it was told to wait", took)
	}
}

// hung is a database that answers nothing.
type hung struct{ database }

func (hung) Installed(ctx context.Context) (bool, error) {
	<-ctx.Done()
	return false, ctx.Err()
}

func TestADatabaseThatHangsKeepsNobodyWaitingForReadiness(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		if told := directText(t.Context(), hung{}); len(told) > 0 || time.Since(began) > 2*time.Second {
			t.Errorf("got %q after %s, want nothing within two seconds", told, time.Since(began))
		}
	})
}

func TestCaseD16_MetricsHaveAListenerOfTheirOwn(t *testing.T) {
	t.Parallel()
	p := listens(t, t.TempDir(), []string{"RUNCOUNTER_API_KEY=another-" + doctorSecret}, "--metrics-listen", "127.0.0.1:0")
	line, ok := p.await("metrics and readiness")
	if !ok {
		t.Fatalf("serve ended: %s", p.said())
	}
	if a := ask(t, http.MethodGet, p.url+"/metrics", ""); a.status != http.StatusUnauthorized || !strings.Contains(a.text, "RUNCOUNTER_METRICS_LISTEN") {
		t.Errorf("where strangers ask: got %+v, want 401", a)
	}
	if text := mustText(t, line.URL+"/metrics"); !strings.Contains(text, "runcounter_database_rows{") {
		t.Errorf("the metrics lack what the database holds:\n%s", text)
	}
	p.Process.Signal(syscall.SIGTERM)
	if code := p.end(); code != exitFine {
		t.Errorf("exit code %d, want 0\n%s", code, p.said())
	}
}

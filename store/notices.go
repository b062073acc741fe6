package store

import (
	"context"
	"errors"
	"time"
)

// Notice is a message to operators: how things last turned with a subject.
type Notice struct {
	Subject string // such as [DoctorSubject]
	State   string // such as failing
	ID      string // the same however often it is sent
	Body    string // as it is sent
	MadeAt  time.Time
	Tries   int // times that it was taken
}

// DoctorSubject is the subject of what doctor finds. Its notice is kept for ever; those
// of other subjects are pruned as logs are.
const DoctorSubject = "doctor"

// MaxNotices is the number of notices that wait to be sent, from which on no more of
// new subjects are taken in.
const MaxNotices = 1000

// ErrNoticesFull means that [MaxNotices] wait to be sent.
var ErrNoticesFull = errors.New("too many notices wait to be sent")

// NoticeBox keeps the last notice of each subject until it is sent, for all instances of
// the program together: that one of them sends it is decided here.
type NoticeBox interface {
	// Notice returns the last notice of a subject, the zero Notice where there is none.
	Notice(ctx context.Context, subject string) (Notice, error)

	// TurnNotice puts a notice in the place of its subject's last one, if that has the id
	// was; where was is empty, if that has another id, or there is none. It reports
	// whether it did: another instance may have been first. The notice is due from a time
	// on; one that is never due, by the zero time, says how things stand and is not sent.
	//
	// Errors: [ErrNoticesFull], unless was is the id of the last one or it is never due.
	TurnNotice(ctx context.Context, was string, n Notice, due time.Time) (bool, error)

	// TakeNotice returns the notice that has been due for longest, and puts it off until a
	// time, at which another instance takes it unless it was settled. The zero Notice
	// means that none is due.
	TakeNotice(ctx context.Context, now, until time.Time) (Notice, error)

	// SettleNotice puts a notice off until a time; the zero time means for ever, since it
	// was sent or given up. One that is no longer its subject's last is left alone.
	SettleNotice(ctx context.Context, id string, due time.Time) error
}

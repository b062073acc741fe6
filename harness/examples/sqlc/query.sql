-- name: Balance :one
select balance from accounts where name = $1;

-- name: SetBalance :exec
update accounts set balance = $2 where name = $1;

-- name: Withdraw :execrows
update accounts set balance = balance - sqlc.arg(amount) where name = sqlc.arg(name) and balance >= sqlc.arg(amount);

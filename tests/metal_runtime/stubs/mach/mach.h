#pragma once

typedef unsigned task_id_token_t;
typedef int kern_return_t;
